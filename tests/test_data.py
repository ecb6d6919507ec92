"""Videos, labels, splits and clips."""
import pickle
import random
import shutil

import numpy as np
import pytest
import torch
from conftest import ACTIONS, make_images, write_frames, write_video
from PIL import Image
from sklearn.preprocessing import LabelEncoder, OneHotEncoder
from torchvision.transforms.functional import resize

import functions
from functions import (Dataset_3DCNN, Dataset_CRNN, InputError, Video, check_frames, list_videos,
                       load_action_names, read_clip, split_videos)

FRAMES = list(range(1, 11))


def test_frame_folders_and_video_files_are_videos_and_stray_entries_are_not(tmp_path, capsys):
    images = make_images(0)
    write_frames(tmp_path / "v_Punch_g01_c01", images)
    write_frames(tmp_path / "Biking" / "v_Biking_g02_c01", images)
    write_video(tmp_path / "UCF" / "v_HandStandPushups_g03_c12.avi", images)
    write_video(tmp_path / "v_Biking_g01_c01.MP4", images)
    write_video(tmp_path / "v_Punch_g01_c01.avi", images)  # stored both ways: one video
    write_frames(tmp_path / "v_HandstandPushups_g03_c12", images)  # the same, spelt otherwise
    (tmp_path / "Empty").mkdir()
    for stray in (".DS_Store", "readme.txt", "Biking/._v_Biking_g02_c01.avi", "Biking/notes.md"):
        (tmp_path / stray).write_text("")
    videos = list_videos(str(tmp_path), ACTIONS)
    assert [video.name for video in videos] == [
        "v_Biking_g01_c01", "v_Biking_g02_c01", "v_HandStandPushups_g03_c12", "v_Punch_g01_c01"]
    assert [video.action for video in videos] == ["Biking", "Biking", "HandstandPushups", "Punch"]
    assert [video.group for video in videos] == [1, 2, 3, 1]
    assert capsys.readouterr().out == ""


def test_misnamed_videos_are_skipped_counted_and_named(tmp_path, capsys):
    images = make_images(0, count=1)
    write_frames(tmp_path / "v_Punch_g01_c01", images)
    write_frames(tmp_path / "xv_Punch_g01_c01", images)
    write_frames(tmp_path / "Punch" / "v_Punch_g01_c01_copy", images)
    assert len(list_videos(str(tmp_path), ACTIONS)) == 1
    out = capsys.readouterr().out
    assert "Skipped 2" in out and "xv_Punch_g01_c01" in out and "v_Punch_g01_c01_copy" in out


def test_unknown_actions_are_listed_once(tmp_path):
    for name in ("v_Wave_g01_c01", "v_Wave_g02_c01", "v_Bend_g01_c01", "v_Punch_g01_c01"):
        write_frames(tmp_path / name, make_images(0, count=1))
    with pytest.raises(InputError, match="Bend, Wave$"):
        list_videos(str(tmp_path), ACTIONS)


def test_the_101_actions():
    names = load_action_names(str(functions.Path(functions.__file__).parent.parent / "UCF101actions.pkl"))
    assert len(names) == len(set(names)) == 101
    assert {"ApplyEyeMakeup", "HandstandPushups", "YoYo"} <= set(names)


def test_label_helpers():
    label_encoder = LabelEncoder().fit(ACTIONS)
    one_hot_encoder = OneHotEncoder().fit(label_encoder.transform(ACTIONS).reshape(-1, 1))
    labels = ["Punch", "Biking", "Punch"]
    assert functions.labels2cat(label_encoder, labels).tolist() == [2, 0, 2]
    onehot = functions.labels2onehot(one_hot_encoder, label_encoder, labels)
    assert onehot.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert functions.onehot2labels(label_encoder, onehot) == labels
    assert functions.cat2labels(label_encoder, [2, 0, 2]) == labels


def ucf_like():
    """101 actions x 25 groups, 13,320 videos as in UCF101."""
    videos = [Video(f"v_A{a:03d}_g{g:02d}_c{c:02d}", "", f"A{a:03d}", g)
              for a in range(101) for g in range(1, 26) for c in range(1, 7)]
    return sorted(random.Random(0).sample(videos, 13_320))


def test_random_split_is_the_tutorials_and_follows_the_seed():
    train, test = split_videos(ucf_like(), "random", 42)
    assert (len(train), len(test)) == (9_990, 3_330) and not set(train) & set(test)
    assert split_videos(ucf_like(), "random", 42)[1] == test != split_videos(ucf_like(), "random", 43)[1]


def test_group_split_keeps_groups_apart_whatever_the_action():
    videos = ucf_like()
    train, test = split_videos(videos, "group", 42)
    assert len(train) + len(test) == len(videos)
    assert not {v.group for v in train} & {v.group for v in test}
    assert len({v.group for v in test}) == 6
    assert {v.group for v in split_videos(videos, "group", 0)[1]} != {v.group for v in test}


@pytest.mark.parametrize("split, groups", [("official1", range(1, 8)), ("official2", range(8, 15)),
                                           ("official3", range(15, 22))])
def test_official_splits(split, groups):
    train, test = split_videos(ucf_like(), split, 42)
    assert ({v.group for v in test} == set(groups)
            and {v.group for v in train} == set(range(1, 26)) - set(groups))


def test_a_split_with_an_empty_side_is_refused():
    with pytest.raises(InputError, match="take another --split"):
        split_videos([Video("v_A_g01_c01", "", "A", 1)] * 4, "group", 0)
    with pytest.raises(InputError, match="take another --split"):
        split_videos([Video("v_A_g01_c01", "", "A", 1)], "random", 0)


def test_clips_are_uint8_and_laid_out_for_each_model(small_data):
    videos = list_videos(str(small_data / "jpegs"), ACTIONS)
    X, y = Dataset_CRNN(videos, range(len(videos)), FRAMES, 20, 26)[3]
    assert (X.shape, X.dtype, y) == ((10, 3, 20, 26), torch.uint8, 3)
    X3, _ = Dataset_3DCNN(videos, range(len(videos)), FRAMES, 20, 26)[3]
    assert X3.shape == (3, 10, 20, 26) and torch.equal(X3.transpose(0, 1), X)
    grey, _ = Dataset_3DCNN(videos, range(len(videos)), FRAMES, 20, 26, channels=1)[3]
    assert grey.shape == (1, 10, 20, 26)


def test_frames_are_resized_as_pillow_does(small_data):
    folder = small_data / "jpegs" / "v_Biking_g01_c01"
    clip, _ = read_clip(str(folder), [1, 5, 9], 24, 17)
    for t, number in enumerate((1, 5, 9)):
        with Image.open(folder / f"frame{number:06d}.jpg") as image:
            pillow = np.asarray(resize(image, [24, 17])).astype(int)
        assert abs(clip[t].permute(1, 2, 0).numpy() - pillow).max() <= 1


def test_a_video_file_gives_the_frames_it_was_made_of(tmp_path):
    images = make_images(3, height=48, width=64)
    write_video(tmp_path / "v_Punch_g01_c01.avi", images)
    clip, unreadable = read_clip(str(tmp_path / "v_Punch_g01_c01.avi"), [2, 5, 8], 48, 64)
    assert clip.shape == (3, 3, 48, 64) and not unreadable
    for t, number in enumerate((2, 5, 8)):  # lossy, and colours are coarser than light
        assert abs(clip[t].permute(1, 2, 0).numpy().astype(int) - images[number - 1]).mean() < 12
    grey, _ = read_clip(str(tmp_path / "v_Punch_g01_c01.avi"), [2], 48, 64, channels=1)
    assert grey.shape == (1, 1, 48, 64)


def test_grey_cmyk_progressive_odd_and_differently_sized_frames_are_read_right(tmp_path):
    colour = Image.fromarray(make_images(5, count=1, height=64, width=48)[0])
    colour.save(tmp_path / "frame000001.jpg", quality=95)
    colour.save(tmp_path / "frame000002.jpg", quality=95, progressive=True)
    colour.convert("CMYK").save(tmp_path / "frame000003.jpg", quality=95)
    colour.convert("L").save(tmp_path / "frame000004.jpg", quality=95)
    colour.resize((33, 71)).save(tmp_path / "frame000005.jpg", quality=95)
    clip, unreadable = read_clip(str(tmp_path), [1, 2, 3, 4, 5], 32, 32)
    assert not unreadable
    difference = (clip.int() - clip[0].int()).abs().float().mean((1, 2, 3))
    assert difference[[1, 2]].max() < 4 and difference[4] < 6
    grey = np.asarray(colour.convert("L").resize((32, 32), Image.Resampling.BILINEAR))
    assert abs(clip[3].numpy().astype(int) - grey).max() < 8


def test_too_few_frames_are_found_before_training(tmp_path):
    for name, count in (("v_Punch_g01_c01", 12), ("v_Punch_g02_c01", 7)):
        write_frames(tmp_path / name, make_images(0, count=count))
    videos = list_videos(str(tmp_path), ACTIONS)
    check_frames(videos, list(range(1, 8)))
    with pytest.raises(InputError, match="v_Punch_g02_c01 has 7 frames, frame 10 is asked for"):
        check_frames(videos, FRAMES)
    (tmp_path / "v_Punch_g01_c01" / "frame000010.jpg").unlink()  # a gap, not an end: the next stands in
    check_frames(videos[:1], FRAMES)
    (tmp_path / "v_Punch_g00_c01").mkdir()
    with pytest.raises(InputError, match="v_Punch_g00_c01 holds no frames: they are named frame000001.jpg"):
        check_frames(list_videos(str(tmp_path), ACTIONS), FRAMES)
    (tmp_path / "v_Punch_g00_c01").rmdir()
    write_video(tmp_path / "v_Punch_g03_c01.avi", make_images(0, count=7))
    with pytest.raises(InputError, match="v_Punch_g03_c01.avi has 7 frames"):
        read_clip(str(tmp_path / "v_Punch_g03_c01.avi"), FRAMES, 20, 20)
    (tmp_path / "v_Punch_g04_c01.avi").write_bytes(b"")
    with pytest.raises(InputError, match="v_Punch_g04_c01.avi is an empty file"):
        check_frames(list_videos(str(tmp_path), ACTIONS), [1])


def broken_frames(folder):
    """Frame 3 is truncated, 4 empty, 5 no JPEG, 10 missing."""
    data = (folder / "frame000003.jpg").read_bytes()
    (folder / "frame000003.jpg").write_bytes(data[: len(data) // 2])
    (folder / "frame000004.jpg").write_bytes(b"")
    (folder / "frame000005.jpg").write_bytes(b"no picture")


def test_the_nearest_readable_frame_stands_in_and_each_file_is_named_once(small_data, tmp_path, capsys):
    folder = tmp_path / "v_Punch_g01_c01"
    shutil.copytree(small_data / "jpegs" / "v_Punch_g01_c01", folder)
    whole, _ = read_clip(str(folder), FRAMES, 20, 20)
    broken_frames(folder)
    dataset = Dataset_CRNN(list_videos(str(tmp_path), ACTIONS), [0], FRAMES, 20, 20)
    clip, _ = dataset[0]
    assert torch.equal(clip, whole[[0, 1, 1, 1, 5, 5, 6, 7, 8, 9]])
    dataset[0]
    err = capsys.readouterr().err
    assert err.count("v_Punch_g01_c01: frame 3, 4, 5 cannot be read; the nearest readable one stands in") == 1


def test_a_video_without_a_readable_frame_is_named(tmp_path):
    folder = tmp_path / "v_Punch_g01_c01"
    write_frames(folder, make_images(0, count=2))
    for path in folder.iterdir():
        path.write_bytes(b"x")
    with pytest.raises(InputError, match="v_Punch_g01_c01: none of its frames 1 to 2 can be read"):
        read_clip(str(folder), [1, 2], 20, 20)
    (tmp_path / "v_Punch_g02_c01.avi").write_bytes(b"RIFF" * 100)
    with pytest.raises(InputError, match="v_Punch_g02_c01.avi: none of its frames"):
        read_clip(str(tmp_path / "v_Punch_g02_c01.avi"), [1, 2], 20, 20)


def test_a_damaged_video_file_gives_what_can_be_read(tmp_path):
    path = tmp_path / "v_Punch_g01_c01.avi"
    write_video(path, make_images(0, count=12, height=96, width=96))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    clip, unreadable = read_clip(str(path), FRAMES, 20, 20)
    assert clip.shape == (10, 3, 20, 20) and 0 < len(unreadable) < 10 and unreadable[-1] == 10


class Payload:
    """Unpickled without care, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_action_lists_admit_lists_and_strings_only(tmp_path):
    path, trace = tmp_path / "actions.pkl", tmp_path / "trace"
    for content in (Payload(trace), ["Punch", Payload(trace)], {"Punch": 1}, "Punch", [], ["Punch", 1],
                    ("Punch",), [np.str_("Punch")], ["Punch", "PUNCH"]):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(InputError, match="actions.pkl"):
            load_action_names(str(path))
    assert not trace.exists()
    path.write_text("Punch\nBiking\n")
    with pytest.raises(InputError, match="not a pickled list of str"):
        load_action_names(str(path))
    with pytest.raises(InputError, match="No such file"):
        load_action_names(str(tmp_path / "none.pkl"))


def test_fuzzed_action_lists_names_and_frames_raise_only_our_errors(tmp_path):
    rng = random.Random(0)
    good = pickle.dumps(ACTIONS)
    path, frame = tmp_path / "actions.pkl", tmp_path / "v_Punch_g01_c01" / "frame000001.jpg"
    write_frames(frame.parent, make_images(0, count=2, height=16, width=16))
    jpeg = frame.read_bytes()
    for _ in range(1000):
        path.write_bytes(mutate(good, rng))
        try:
            assert all(type(name) is str for name in load_action_names(str(path)))
        except InputError:
            pass
        frame.write_bytes(mutate(jpeg, rng))
        clip, _ = read_clip(str(frame.parent), [1, 2], 16, 16)
        assert clip.shape == (2, 3, 16, 16)
        name = "".join(rng.choice("v_g c01Punch\n\u00b2\u0661.é/") for _ in range(rng.randrange(20)))
        match = functions.VIDEO_NAME.fullmatch(name)
        assert match is None or int(match["group"]) >= 0


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change, cut or insert a few bytes."""
    data = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(3)
        if kind == 0:
            data[at:at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            data[at:at + rng.randrange(1, 20)] = b""
        else:
            data[at:at] = rng.randbytes(rng.randrange(1, 5))
    return bytes(data)
