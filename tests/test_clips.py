"""Clips of videos as data sets, short and broken videos, and clips that are kept on disk."""
import argparse
import contextlib
import errno
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_frames import cut_before_a_key_frame, cut_without_reencoding
from torchvision.transforms.functional import resize

import frames
import functions
from conftest import assert_same_run, broken_frames, load, make_images, train, write_frames, write_video
from frames import UnreadableVideo
from functions import Dataset_3DCNN, Dataset_CRNN, KeptDataset, keep_arrays, make_loader, spread_clips
from runs import InputError
from videos import Video, find_videos

FRAMES = list(range(1, 11))


def read(path: Path, numbers: list[int], height: int = 16, width: int = 16, channels: int = 3):
    """One clip, the numbers of its unreadable frames, and the number of its last frame."""
    return next(functions.read_clips(str(path), [numbers], height, width, channels))


def dataset_of(*paths: Path, cls=Dataset_CRNN, clips: int = 1) -> Dataset_CRNN:
    return cls([Video(f"Bend/{path.name}", str(path), "Bend", "", label=7) for path in paths], FRAMES, 16, 16,
               clips=clips)


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """How many frames each call of decode delivered."""
    counts, decode = [], frames.decode

    def counting(*path_and_part):
        counts.append(0)
        for numbered in decode(*path_and_part):
            counts[-1] += 1
            yield numbered

    monkeypatch.setattr(frames, "decode", counting)
    return counts


# ------------------------------------------------------------------------------ clips


def test_frames_of_several_sizes_are_resized_as_pillow_does(tmp_path):
    sizes = (48, 64), (48, 64), (71, 33), (20, 20)
    pictures = [Image.fromarray(make_images(0, 1, *size)[0]) for size in sizes]
    for number, picture in enumerate(pictures, start=1):
        picture.save(tmp_path / f"{number}.png")
    clip, _, _ = read(tmp_path, [1, 2, 3, 4], 24, 17)
    for X, picture in zip(clip, pictures, strict=True):
        assert abs(X.permute(1, 2, 0).numpy() - np.asarray(resize(picture, [24, 17])).astype(int)).max() <= 1


def test_clips_are_spread_evenly_over_a_video():
    def first_frames(clips, count):
        spread = spread_clips(FRAMES, clips, count)
        assert all(np.diff(clip).tolist() == [1] * 9 for clip in spread)
        return [clip[0] for clip in spread]

    assert first_frames(5, 50) == [1, 11, 21, 31, 41]
    assert first_frames(5, 30) == [1, 6, 11, 16, 21]  # they overlap
    assert first_frames(5, 7) == [1] * 5  # shorter than one
    assert first_frames(2, 33) == [1, 24] and first_frames(1, 33) == [1]
    assert spread_clips([3, 5, 7], 3, 11) == [[3, 5, 7], [5, 7, 9], [7, 9, 11]]


@pytest.mark.parametrize("cls", [Dataset_CRNN, Dataset_3DCNN])
@pytest.mark.parametrize("stored", ["folder", "film.avi"])
@pytest.mark.parametrize("count, same", [(50, 1), (17, 1), (7, 5)])
def test_each_of_several_clips_is_the_same_alone_and_with_the_others(tmp_path, stored, count, same, cls):
    write_frames(tmp_path / "folder", make_images(1, count=count))
    write_video(tmp_path / "film.avi", make_images(1, count=count))
    dataset = dataset_of(tmp_path / stored, cls=cls, clips=5)
    clips, y = dataset[0]
    assert len(clips) == 5 and y == 7 and dataset.counts[0] == count
    for k in range(5):
        clip, y = dataset[0, k]
        assert y == 7 and torch.equal(clip, clips[k])
    assert sum(torch.equal(clips[0], clip) for clip in clips) == same
    assert torch.equal(clips[0], dataset_of(tmp_path / stored, cls=cls)[0][0])


BROKEN = {"a clip's last": ([10, 20, 30], 3), "all of a clip": (range(18, 34), 5),
          "all of the first clip": (range(1, 12), 5)}  # frames that are not there, of a folder; clips


@pytest.mark.parametrize("broken, clips", BROKEN.values(), ids=BROKEN)
def test_a_clip_has_the_same_stand_ins_alone_and_with_the_others(tmp_path, broken, clips):
    write_frames(tmp_path / "folder", make_images(1, count=10 * clips))
    for number in broken:
        (tmp_path / "folder" / f"frame{number:06d}.jpg").write_bytes(b"")
    dataset = dataset_of(tmp_path / "folder", clips=clips)
    for k, clip in enumerate(dataset[0][0]):
        assert torch.equal(dataset[0, k][0], clip), k


def test_a_file_is_decoded_once_for_all_clips_and_not_beyond_the_last_frame(tmp_path, decoded):
    write_video(tmp_path / "film.avi", make_images(0, count=60))
    dataset_of(tmp_path / "film.avi")[0]
    assert decoded == [10]
    dataset = dataset_of(tmp_path / "film.avi", clips=3)  # at frames 1, 26, 51
    dataset[0]
    assert decoded == [10, 60]  # which also counts its frames
    dataset[0, 1]
    assert decoded == [10, 60, 35]


def test_training_draws_a_clip_of_each_video_anew_and_a_test_takes_all(tmp_path):
    for n in range(12):
        write_frames(tmp_path / str(n), make_images(n, 3, 8, 8))
    args = argparse.Namespace(batch_size=6, clips=3, seed=4, num_workers=0)
    dataset = dataset_of(*(tmp_path / str(n) for n in range(12)), clips=3)
    sampler, epochs = functions.ClipSampler(dataset, 1, 0, seed=4), []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
        assert sorted(video for video, _ in epochs[-1]) == list(range(12))
        assert {clip for _, clip in epochs[-1]} == {0, 1, 2}
    assert epochs[0] == epochs[2] and sorted(epochs[0]) != sorted(epochs[1])
    orders = {}
    for args.seed, epoch in ((42, 1), (43, 0)):  # a new seed is more than the next epoch of another
        sampler = make_loader(dataset, args, True).sampler
        sampler.set_epoch(epoch)
        orders[args.seed] = list(sampler)
    assert orders[42] != orders[43]
    assert [X.shape for X, _ in make_loader(dataset, args, True)] == [(6, 10, 3, 16, 16)] * 2
    assert [X.shape for X, _ in make_loader(dataset, args, False)] == [(2, 3, 10, 3, 16, 16)] * 6


MOTIONS = {  # frames of one brightness each, a clip's numbers, its differences
    "one frame more than the clip": ([10, 12, 12, 7, 9], [1, 2, 3, 4], [130, 128, 123, 130]),
    "as long as the clip: nothing follows the last": ([10, 12, 12, 7], [1, 2, 3, 4], [130, 128, 123, 128]),
    "clamped": ([0, 255, 0, 9, 200], [1, 2, 3, 4], [255, 1, 137, 255]),
    "every second frame": ([10, 0, 11, 0, 13, 0, 16], [1, 3, 5], [129, 130, 131]),
    "a single frame": ([10, 20], [1], [138]),
}


@pytest.mark.parametrize("case", MOTIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_difference_is_the_next_frame_of_the_clip_minus_this_one(case, channels, tmp_path):
    values, numbers, expected = MOTIONS[case]
    for number, value in enumerate(values, start=1):
        Image.new("RGB", (20, 20), (value,) * 3).save(tmp_path / f"{number}.png")
    clips = {}
    for how in ("frames", "differences", "both"):
        sets = [cls([Video("Bend/1", str(tmp_path), "Bend", "")], numbers, 16, 16, channels, input=how)
                for cls in (Dataset_CRNN, Dataset_3DCNN)]
        clips[how] = sets[0][0][0]
        assert torch.equal(sets[1][0][0].transpose(0, 1), clips[how])
        assert sets[0].ends[0] == 0  # it does not count as short
    differences = torch.tensor(expected, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, channels, 16, 16)
    assert torch.equal(clips["differences"], differences)
    assert torch.equal(clips["both"], torch.cat([clips["frames"], differences], dim=1))


# ------------------------------------------------------------------------------ short and broken videos


@pytest.mark.parametrize("stored", ["folder", "film.avi"])
def test_a_short_video_holds_its_last_frame_and_is_counted(tmp_path, capsys, stored):
    write_frames(tmp_path / "folder", make_images(0, count=7))
    write_video(tmp_path / "film.avi", make_images(0, count=7))
    dataset = dataset_of(tmp_path / "other", tmp_path / stored)
    clip, _ = dataset[1]
    assert all(torch.equal(clip[t], clip[6]) for t in (7, 8, 9)) and not torch.equal(clip[5], clip[6])
    assert dataset.ends.tolist() == [0, 7]
    functions.report_short_videos(dataset)
    functions.report_short_videos(dataset)
    out, err = capsys.readouterr()
    assert err == "" and " ".join(out.split()).count("1 of 2 videos end before frame 10") == 1
    assert f"the shortest, Bend/{stored}, has 7 frames" in " ".join(out.split())
    beyond, unreadable, end = read(tmp_path / stored, [20, 21])
    assert all(torch.equal(frame, clip[6]) for frame in beyond) and (unreadable, end) == ([], 7)


def test_a_file_that_was_cut_off_gives_what_is_there(tmp_path):
    path = write_video(tmp_path / "film.avi", make_images(0, count=12), "mjpeg")
    whole, _, _ = read(path, FRAMES)
    path.write_bytes(path.read_bytes()[:path.stat().st_size * 3 // 4])
    clip, unreadable, end = read(path, FRAMES)
    readable = end - len(unreadable)
    assert 3 <= readable < 10 and torch.equal(clip[:readable - 1], whole[:readable - 1])
    assert all(torch.equal(frame, clip[readable]) for frame in clip[readable:])


def test_the_nearest_readable_frame_stands_in_and_each_video_is_named_once(tmp_path, capsys):
    write_frames(tmp_path / "clip", make_images(0))
    whole, _, _ = read(tmp_path / "clip", FRAMES)
    broken_frames(tmp_path / "clip")
    (tmp_path / "clip" / "frame000008.jpg").unlink()  # a gap
    dataset = dataset_of(tmp_path / "clip")
    clip, _ = dataset[0]
    assert torch.equal(clip, whole[[0, 1, 1, 1, 5, 5, 6, 6, 8, 9]])
    dataset[0]
    err = capsys.readouterr().err
    assert err.count("clip: frame 3, 4, 5, 8 cannot be read; the nearest readable one replaces it") == 1
    assert dataset.ends[0] == 0  # it is not short


# ------------------------------------------------------------------------------ kept clips


def keep(folder: Path, datasets: list[Dataset_CRNN]) -> list:
    clips = datasets[0].clips
    args = argparse.Namespace(save_model_path=str(folder), cache_gb=10, clips=clips, num_workers=0,
                              batch_size=4)
    return keep_arrays(args, torch.nn.DataParallel(torch.nn.Flatten()), torch.device("cpu"), datasets)


@pytest.mark.parametrize("cls", [Dataset_CRNN, Dataset_3DCNN])
@pytest.mark.parametrize("clips", [1, 3])
def test_kept_clips_are_those_that_are_read_and_decoded_once(tmp_path, decoded, cls, clips, capsys):
    write_video(tmp_path / "film.avi", make_images(0, count=25))
    write_frames(tmp_path / "folder", make_images(1, count=12))
    other = write_video(tmp_path / "short.mp4", make_images(2, count=5), "libx264")
    train, test = dataset_of(tmp_path / "film.avi", tmp_path / "folder", cls=cls, clips=clips), dataset_of(
        other, cls=cls, clips=clips)
    kept = keep(tmp_path, [train, test])
    assert len(decoded) == 2 and all(isinstance(part, KeptDataset) for part in kept)
    out = " ".join(capsys.readouterr().out.split())
    assert "clips of 3 videos, 0.00 GB" in out and "end before frame 10" in out  # short ones are counted
    for part, dataset in zip(kept, (train, test), strict=True):
        assert len(part) == len(dataset)
        for index in range(len(part)):
            for where in (index, *((index, k) for k in range(clips))):
                (X, y), (expected, label) = part[where], dataset[where]
                assert torch.equal(X, expected) and X.dtype == torch.uint8 and y == label == 7
    decoded.clear()
    keep(tmp_path, [dataset_of(*(Path(video.path) for video in train.videos), cls=cls, clips=clips)])
    assert decoded == []  # nor in another run
    write_video(tmp_path / "film.avi", make_images(3, count=25))
    new, = keep(tmp_path, [train])
    assert len(decoded) == 1 and not torch.equal(new[0][0], kept[0][0][0])  # a changed file is read again


@pytest.mark.parametrize("make, count, times", [(cut_without_reencoding, 7, 2),
                                                (cut_before_a_key_frame, 10, 4)])
def test_a_file_whose_packets_are_not_its_frames_is_counted_right(tmp_path, decoded, make, count, times):
    dataset = dataset_of(make(tmp_path, make_images(1, 20, 48, 64))[0], clips=3)
    kept, = keep(tmp_path, [dataset])
    assert dataset.counts[0] == count and len(decoded) <= times
    assert torch.equal(kept[0][0], dataset[0][0])


def test_nothing_is_kept_of_a_video_that_the_system_failed_to_read(tmp_path, monkeypatch):
    for name in ("first", "second", "third"):
        write_frames(tmp_path / name, make_images(1, count=12))
    dataset, real, failing = dataset_of(tmp_path / "first", tmp_path / "second"), Image.open, [True]

    def open_(path, **options):
        if failing[0] and path == str(tmp_path / "second" / "frame000007.jpg"):
            raise OSError(errno.ESTALE, "")
        return real(path, **options)

    monkeypatch.setattr(frames.Image, "open", open_)
    with pytest.raises(InputError, match="frame000007.jpg.*--resume") as raised:
        keep(tmp_path, [dataset])
    assert raised.type is InputError and len(list(tmp_path.glob("clips_*/*"))) == 1
    failing[0] = False
    kept, = keep(tmp_path, [dataset])
    assert torch.equal(kept[1][0], dataset_of(tmp_path / "second")[0][0])
    for path, content in ((kept.paths[1], bytes(kept.paths[1].stat().st_size)), (kept.paths[0], b"")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"{path.name} is damaged: delete it"):
            keep(tmp_path, [dataset])[0].read([(0, 0), (1, 0)])


# ------------------------------------------------------------------------------ parts of recordings


def test_parts_of_recordings_train_to_the_last_bit_as_the_same_frames_in_folders(tmp_path):
    """Whole recordings are held out."""
    rows = ["video,action,start,end"]
    for day in range(4):
        write_video(tmp_path / f"day{day}.mp4", make_images(day, 40), "libx264", g="9")
        rows += [f"day{day}.mp4,{part}" for part in ("Bend,,0.48", "Wave,0:00.48,1.0", "Jump,1,")]
    (tmp_path / "parts.csv").write_text("\n".join(rows))
    found, rows = find_videos(str(tmp_path / "parts.csv")), ["video,action,source"]
    for video in found:
        pictures = frames.read_frames(video.path, range(1, 41), part=(video.start, video.end))
        (tmp_path / video.name).mkdir()
        for number, pixels in pictures:
            Image.fromarray(pixels).save(tmp_path / video.name / f"{number}.png")
        rows.append(f"{video.name},{video.action},{Path(video.path).stem}")
    (tmp_path / "folders.csv").write_text("\n".join(rows))
    for name in ("parts", "folders"):
        train("Conv3D", tmp_path, tmp_path / name, "--data_path", tmp_path / f"{name}.csv", "--clips", "2",
              "--action_name_path", "none")
    assert_same_run(tmp_path / "parts", tmp_path / "folders", "Conv3D", 2)
    tested = load(tmp_path / "parts" / "Conv3D_epoch2.pth")["test_videos"]
    assert len(found) == 12 and len(tested) == 3 and len({name.split("@")[0] for name in tested}) == 1


# ------------------------------------------------------------------------------ hundreds of damaged files


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change, cut or insert a few bytes."""
    data = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data) + 1)
        cut, new = rng.choice([(1, 1), (rng.randrange(1, 20), 0), (0, rng.randrange(1, 5))])
        data[at:at + cut] = rng.randbytes(new)
    return bytes(data)


def test_fuzzed_frames_give_a_clip(tmp_path):
    rng = random.Random(0)
    write_frames(tmp_path / "folder", make_images(0, count=2, height=16, width=16))
    frame = tmp_path / "folder" / "frame000001.jpg"
    jpeg = frame.read_bytes()
    for _ in range(300):
        frame.write_bytes(mutate(jpeg, rng))
        clip, unreadable, end = read(frame.parent, [1, 2])
        assert clip.shape == (2, 3, 16, 16) and set(unreadable) <= {1} and end == 2


@pytest.mark.parametrize("suffix, codec", [(".avi", "mpeg4"), (".mp4", "libx264"), (".gif", "gif"),
                                           (".mkv", "mpeg4")])
def test_fuzzed_video_files_give_a_clip_or_our_errors(tmp_path, suffix, codec):
    rng = random.Random(0)
    pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
    path = write_video(tmp_path / f"film{suffix}", make_images(0, 5, 16, 16), codec, pix_fmt)
    good = path.read_bytes()
    for _ in range(80):
        path.write_bytes(mutate(good, rng))
        with contextlib.suppress(UnreadableVideo):
            clip, unreadable, end = read(path, list(range(1, 8)))
            assert clip.shape == (7, 3, 16, 16) and len(unreadable) < 7 and end >= 0
