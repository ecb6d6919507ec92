"""What is in a file or a frame folder: the pictures a viewer shows, times, and what is not a video."""
import contextlib
import errno
import io
import os
import re
import shutil
import struct
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import frames
from conftest import REPO, make_images, run, to_frame, tree, write, write_frames, write_video
from frames import UnreadableVideo
from functions import read_clips
from runs import InputError
from videos import find_videos

# ------------------------------------------------------------------------------ the pictures a viewer shows


def refusal(message: str, function, *args) -> str:
    """The message of an InputError that is not an UnreadableVideo, with its advice to delete the video."""
    with pytest.raises(InputError, match=message) as raised:
        function(*args)
    assert raised.type is InputError
    return str(raised.value)


def frames_of(path: Path, numbers: list[int], channels: int = 3) -> dict[int, np.ndarray]:
    """{number: pixels} of the frames that can be read."""
    found = frames.read_frames(str(path), numbers, channels)
    return {number: pixels for number, pixels in found if not isinstance(pixels, Exception)}


def remux(path: Path, target: Path, change, **metadata) -> Path:
    """Write the packets of a video file to another, as change([(bytes, packet)]) returns them."""
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        container.metadata.update(metadata)
        stream = container.add_stream_from_template(source.streams.video[0])
        packets = [(bytes(packet), packet) for packet in source.demux(video=0) if packet.size]
        for data, packet in change(packets):
            new = av.Packet(data)
            new.pts, new.dts, new.time_base = packet.pts, packet.dts, packet.time_base
            new.is_keyframe, new.stream = packet.is_keyframe, stream
            container.mux(new)
    return target


def patch(path: Path, after: bytes, offset: int, new: bytes) -> Path:
    """Overwrite bytes of a file, `offset` behind the first occurrence of a word."""
    return overwrite(path, path.read_bytes().index(after) + len(after) + offset, new)


def overwrite(path: Path, begin: int, new: bytes) -> Path:
    data = path.read_bytes()
    return write(path, data[:begin] + new + data[begin + len(new):])


def header_of_300_frames(folder, images):
    path = patch(write_video(folder / "film.avi", images, "mjpeg"), b"avih", 4 + 16, struct.pack("<I", 300))
    return patch(path, b"strh", 4 + 32, struct.pack("<I", 300)), images


def damaged_packet(number: int, codec: str, name: str, part: int):
    """A file of which a packet, or its second half, is zeros."""
    def make(folder, images):
        path = write_video(folder / name, images, codec, g="1")
        with av.open(str(path)) as container:
            packet = list(container.demux(video=0))[number - 1]
            size = packet.size // part
            overwrite(path, packet.pos + packet.size - size, bytes(size))
        return path, [*images[:number - 1], None, *images[number:]]

    return make


def displayed_by(a, b, c, d, show):
    """An .mp4 whose display matrix shows (x, y) at (ax + cy, bx + dy)."""
    def make(folder, images):
        path = write_video(folder / "film.mp4", images, "libx264")
        values = [round(65536 * value) for value in (a, b, 0, c, d, 0, 0, 0)]
        return patch(path, b"tkhd", 40, struct.pack(">8i", *values)), [show(image) for image in images]

    return make


def two_streams(codec: str, suffix: str, scale: float, marked: bool):
    """A preview or a cover picture comes first."""
    def make(folder, images):
        first = [np.asarray(Image.fromarray(255 - image).resize((int(64 * scale), int(48 * scale))))
                 for image in (images[:1] if codec == "mjpeg" else images)]
        with av.open(str(folder / f"film.{suffix}"), "w") as container:
            streams = [container.add_stream(codec, rate=25), container.add_stream("libx264", rate=25)]
            for stream, pictures in zip(streams, (first, images), strict=True):
                stream.height, stream.width = pictures[0].shape[:2]
                stream.pix_fmt = "yuvj420p" if (stream, codec) == (streams[0], "mjpeg") else "yuv420p"
                stream.disposition = int(marked and stream is streams[1])  # default
            for stream, pictures in zip(streams, (first, images), strict=True):
                for frame in [*map(to_frame, pictures), None]:
                    container.mux(stream.encode(frame))
        return folder / f"film.{suffix}", images

    return make


def several_frames_a_packet(folder, images):
    """As broadcasts have them: most frames have no time of their own."""
    path = write_video(folder / "whole.ts", images, "mpeg2video", bf="0")
    return remux(path, folder / "film.ts", lambda packets: [
        (b"".join(data for data, _ in packets[k:k + 3]), packets[k][1]) for k in range(0, 20, 3)]), images


def packets_that_show_nothing(folder, images):
    """Pictures of VP8 that others refer to need not be shown: the bit show_frame is 0."""
    if "libvpx" not in av.codecs_available:
        pytest.skip("writes VP8")
    path = write_video(folder / "whole.webm", images, "libvpx")
    path = remux(path, folder / "film.webm", lambda packets: [
        (bytes([data[0] & (0xEF if number in (3, 7) else 0xFF)]) + data[1:], packet)
        for number, (data, packet) in enumerate(packets)])
    return path, [image for number, image in enumerate(images) if number not in (3, 7)]


def title_in_latin_1(folder, images):
    path = remux(write_video(folder / "film.avi", images), folder / "titled.avi", list, title="Caf? noir")
    return patch(path, b"Caf", 0, b"\xe9"), images


def cut_without_reencoding(folder, images):
    """The edit list leaves frames 6 to 12 of 20."""
    path = write_video(folder / "film.mp4", images, "libx264", bf="0")
    with av.open(str(path)) as container:
        tick = container.streams.video[0].time_base
    return patch(path, b"elst", 8, struct.pack(">II", 7 * 40, int(Fraction(5, 25) / tick))), images[5:12]


def cut_before_a_key_frame(folder, images):
    """The recording begins amid frames that refer to earlier ones; the first key frame is the 11th."""
    path = write_video(folder / "film.ts", images, "libx264", g="10", bf="0", sc_threshold="0")
    with av.open(str(path)) as container:
        begin = [packet.pos for packet in container.demux(video=0) if packet.size][4]
    return write(path, path.read_bytes()[begin // 188 * 188:]), images[10:]


def exif_turned(folder, images):
    """ImageWidth is not a number; the ninth picture has damaged EXIF data."""
    stored = [lambda x: x, np.fliplr, lambda x: np.rot90(x, 2), np.flipud, lambda x: x.swapaxes(0, 1),
              np.rot90, lambda x: np.rot90(x, 2).swapaxes(0, 1), lambda x: np.rot90(x, -1), lambda x: x]
    for number, turn in enumerate(stored, start=1):
        exif = b"Exif\0\0MM\0*\0\0\0\10" + struct.pack(
            ">HHHI4sHHIHxxI", 2, 0x100, 2, 4, b"abc", 0x112, 3, 1, number, 0)
        Image.fromarray(np.ascontiguousarray(turn(images[number]))).save(
            folder / f"{number}.jpg", quality=95, exif=exif if number < 9 else exif[:12] + exif[20:])
    return folder, images[1:10]


def mixed_formats(folder, images):
    modes = {"3.jpeg": "CMYK", "6.PNG": "RGBA"}
    names = ["1.png", "2.JPG", "3.jpeg", "4.bmp", "5.webp", "6.PNG", "7.png", "8.tif", "9.TIFF", "10.jfif"]
    for name, image in zip(names, images, strict=False):
        picture = Image.fromarray(image)
        picture = picture.quantize(256) if name == "7.png" else picture.convert(modes.get(name, "RGB"))
        picture.save(folder / name, quality=95, progressive=True)
    Image.fromarray(images[10]).save(folder / "11.jpg", "png")  # named as another
    return folder, images[:11]


def transparent(folder, images):
    """The left half is transparent, and shown black."""
    shown = [image.copy() for image in images[:6]]
    for number, image in enumerate(images[:6]):
        shown[number][:, :32] = 0
        picture = Image.fromarray(np.dstack([image, np.full((48, 64), 255, np.uint8)]))
        picture.paste((255, 0, 0, 0), (0, 0, 32, 48))
        if number % 2:  # a palette whose last colour is transparent
            picture = Image.fromarray(image).quantize(255)
            picture.paste(255, (0, 0, 32, 48))
            picture.putpalette([*picture.getpalette()[:765], 255, 0, 0])
        picture.save(folder / f"{number}.{'webp' if number == 2 else 'png'}", lossless=True, exact=True,
                     **({"transparency": 255} if number % 2 else {}))
    return folder, shown


def transparent_video(suffix: str, codec: str, pix_fmt: str):
    """The left half is transparent, red below, and shown black."""
    def make(folder, images):
        shown = [image.copy() for image in images]
        pictures = [np.dstack([image, np.full((48, 64), 255, np.uint8)]) for image in images]
        for image, picture in zip(shown, pictures, strict=True):
            image[:, :32], picture[:, :32] = 0, (255, 0, 0, 0)
        return write_video(folder / f"film{suffix}", pictures, codec, pix_fmt, **{"auto-alt-ref": "0"}), shown

    return make


def filmed(suffix: str, *more, **options):
    return lambda folder, images: (write_video(folder / f"film{suffix}", images, *more, **options), images)


UNEVEN = [7 * n + 10 * n * n for n in range(20)]
ODD = {  # each makes a video of the images in a folder, and returns it and what a viewer shows of it
    "mirrored, as a front camera": displayed_by(-1, 0, 0, 1, np.fliplr),
    "upside down and mirrored": displayed_by(1, 0, 0, -1, np.flipud),
    "rotated by 90": displayed_by(0, 1, -1, 0, lambda image: np.rot90(image, -1)),
    "rotated by 270": displayed_by(0, -1, 1, 0, np.rot90),
    "rotated by 80": displayed_by(0.17, 0.98, -0.98, 0.17, lambda image: np.rot90(image, -1)),
    "rotated by 90, mirrored": displayed_by(0, 1, 1, 0, lambda image: image.swapaxes(0, 1)),
    "rotated by 270, mirrored": displayed_by(0, -1, -1, 0, lambda image: np.rot90(image, 2).swapaxes(0, 1)),
    "a preview comes first": two_streams("libx264", "mp4", 2, True),
    "a preview comes first, none is marked": two_streams("libx264", "mkv", 0.5, False),
    "a large cover comes first": two_streams("mjpeg", "mkv", 2, False),
    "several frames per packet": several_frames_a_packet,
    "packets that show nothing": packets_that_show_nothing,
    "a title that is not UTF-8": title_in_latin_1,
    "a damaged packet": damaged_packet(7, "mjpeg", "film.avi", 1),
    "a damaged first packet": damaged_packet(1, "mjpeg", "film.avi", 1),
    "a frame that the H.264 decoder delivers and marks": damaged_packet(7, "libx264", "film.mp4", 2),
    "a header of too many frames": header_of_300_frames,
    "cut without re-encoding": cut_without_reencoding,
    "cut before a key frame": cut_before_a_key_frame,
    "variable rate, .mkv": filmed(".mkv", "libx264", times=UNEVEN),
    "1,000 frames per second": filmed(".webm", "libvpx-vp9", rate=1000, crf="10", b="0", **{"cpu-used": "8"}),
    "B-frames": filmed(".mov", "libx264", bf="3"),
    ".gif": filmed(".gif", "gif", "rgb8"), ".mpg": filmed(".mpg", "mpeg2video"),
    ".wmv": filmed(".wmv", "wmv2"), ".flv": filmed(".flv", "flv"),
    "transparent .webm": transparent_video(".webm", "libvpx-vp9", "yuva420p"),
    "transparent .mov": transparent_video(".mov", "qtrle", "argb"),
    "colours that no converter knows": filmed(".mp4", "libx264", **{"x264-params": "colormatrix=YCgCo"}),
    "frames turned by EXIF": exif_turned,
    "frames of all formats, progressive, CMYK": mixed_formats,
    "frames with transparency": transparent,
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_the_frames_are_the_pictures_that_a_viewer_shows_and_as_many(tmp_path, make):
    path, shown = make(tmp_path, make_images(1, 20, 48, 64))
    count, readable = len(shown), [number for number, image in enumerate(shown, start=1) if image is not None]
    found = frames_of(path, list(range(1, count + 6)))
    assert list(found) == readable and frames.count_frames(str(path)) == count
    expected = np.stack([shown[number - 1] for number in readable]).astype(int)  # (T, H, W, 3)
    difference = abs(np.stack(list(found.values()))[:, None] - expected).mean((2, 3, 4))  # of each from each
    assert difference.argmin(1).tolist() == list(range(len(readable)))
    assert difference.diagonal().max() < 20  # lossy; .gif has 256 colours; others are 40 and more apart
    last = readable[-1]
    grey = frames_of(path, [last], channels=1)[last]
    assert abs(grey[..., 0] - np.array([0.299, 0.587, 0.114]) @ found[last].swapaxes(1, 2)).mean() < 12
    if path.is_file():
        times = frames.frame_times(str(path))
        assert len(times) == count and times == sorted(times)


OPEN_GOP = {"bf": "3", "x264-params": "open-gop=1"}
RECORDINGS = {  # suffix, codec, kind of its times, their beginning (seconds), options; are parts sought?
    ".mp4": (".mp4", "libx264", 1, 0, OPEN_GOP, True),
    ".mkv, its clock starts late": (".mkv", "libx264", 1, 80_000, OPEN_GOP, True),
    ".ts, its clock starts late": (".ts", "libx264", 1, 80_000, OPEN_GOP, True),
    ".webm, variable rate": (".webm", "libvpx-vp9", 2, 0, {"cpu-used": "8"}, True),
    ".avi, MPEG-4": (".avi", "mpeg4", 0, 0, {}, True),
    ".avi, H.264, pictures in another order": (".avi", "libx264", 0, 0, {"bf": "3"}, False),
    ".mpg, few times": (".mpg", "mpeg2video", 0, 0, {"bf": "2"}, False),
}


@pytest.mark.parametrize("case", RECORDINGS)
def test_a_part_has_the_frames_that_reading_through_shows_but_is_not_read_from_the_beginning(
        tmp_path, monkeypatch, case):
    suffix, codec, variable, begin, options, is_sought = RECORDINGS[case]
    times = [1000 * begin + 40 * number + 17 * (variable == 2) * (number % 3) for number in range(200)]
    path = str(write_video(tmp_path / f"film{suffix}", make_images(1, 200, 16, 16), codec, g="10",
                           times=times if variable else None, **options))
    whole = [(seconds, frame.to_ndarray()) for _, seconds, frame in frames.decode(path)]
    times = [seconds for seconds, _ in whole]
    assert len(times) == 200 and times[0] < 0.1
    assert suffix == ".mpg" or np.allclose(times, frames.frame_times(path))
    counts, decoded_frames = [], frames.decoded_frames

    def counting(*source):
        for entry in decoded_frames(*source):
            counts.append(1)
            yield entry

    monkeypatch.setattr(frames, "decoded_frames", counting)
    for part in ((0.3, 1.02), (3.001, 3.5), (6.5, 7.7), (7.9, 99)):
        expected = [pixels for seconds, pixels in whole if part[0] <= seconds + 5e-4 < part[1]]
        counts.clear()
        found = list(frames.decode(path, part))
        assert [number for number, *_ in found] == list(range(1, len(expected) + 1))
        assert all(np.array_equal(frame.to_ndarray(), pixels)
                   for (*_, frame), pixels in zip(found, expected, strict=True))
        assert not is_sought or len(counts) < len(found) + 80  # a second or two: key frames, late beginnings
        assert frames.estimate_frames(path, part) == len(found) or not is_sought
    with pytest.raises(UnreadableVideo, match="no frame between seconds 50 and 60"):
        list(frames.decode(path, (50, 60)))


@pytest.mark.skipif(os.name == "nt", reason="Windows forbids such names")
@pytest.mark.parametrize("name", ["take:2.avi", "http:x.avi", "pipe:0.avi", "%03d.avi", "new\nline.avi",
                                  "-i.avi", "视频 é.avi", "caf\udce9.avi"], ids=ascii)
def test_a_file_of_any_name_is_read(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "film.avi", make_images(0, count=3))
    with contextlib.suppress(OSError):  # the file system may not allow it
        shutil.copy("film.avi", name)
        assert list(frames_of(name, [1, 2, 3])) == [1, 2, 3] and frames.frame_rate(name) == 25


SERIES = {  # names of images, separated by commas, and those that are frames, in their order
    "numbers without zeros": ("img_10.png, img_2.png", "img_2.png, img_10.png"),
    "seconds_nanoseconds": ("1305031103_1.png, 1305031102_9.png", "1305031102_9.png, 1305031103_1.png"),
    "seconds.microseconds": ("130503113.009.png, 130503112.17.png", "130503112.17.png, 130503113.009.png"),
    "times of the day": ("c_13-00-02.jpg, c_12-59-30.jpg", "c_12-59-30.jpg, c_13-00-02.jpg"),
    "dates": ("2024-05-03_12-00-50.jpg, 2024-05-03_12-01-02.jpg, 2023-06-03_12-00-50.jpg",
              "2023-06-03_12-00-50.jpg, 2024-05-03_12-00-50.jpg, 2024-05-03_12-01-02.jpg"),
    "the total behind": ("2of3.jpg, 10of3.jpg, 1of3.jpg", "1of3.jpg, 2of3.jpg, 10of3.jpg"),
    "a poster and a cover beside": ("poster_640x480.png, cover.png, i_1.png, i_2.png", "i_1.png, i_2.png"),
    "of Windows": ("frame.jpg, frame (2).jpg, frame (1).jpg", "frame (1).jpg, frame (2).jpg"),
    "from 0": ("frame000000.jpg, frame000001.jpg", "frame000000.jpg, frame000001.jpg"),
    "hundredths of seconds": ("12.09.png, 12.10.png, 12.11.png", "12.09.png, 12.10.png, 12.11.png"),
    "flow beside": ("img_1.jpg, img_2.jpg, img_3.jpg, flow_x_1.jpg, flow_x_2.jpg, flow_y_1.jpg",
                    "img_1.jpg, img_2.jpg, img_3.jpg"),
    "two formats": ("1.jpg, 2.png", "1.jpg, 2.png"),
}


@pytest.mark.parametrize("images, shown", SERIES.values(), ids=SERIES)
def test_frames_are_the_largest_series_of_images_in_the_order_of_all_their_numbers(tmp_path, images, shown):
    tree(tmp_path, *images.split(", "))
    expected = {number: str(tmp_path / name) for number, name in enumerate(shown.split(", "), start=1)}
    assert frames.list_images(str(tmp_path)) == expected


UNCLEAR = {
    "one number in two formats": ["img_1.jpg", "img_2.jpg", "img_1.png", "img_2.png"],
    "one number, with a zero and without": ["img_1.jpg", "img_01.jpg"],
    "two series of equal size": ["rgb_1.jpg", "rgb_2.jpg", "depth_11.jpg", "depth_12.jpg"],
    "seconds": ["0.05.png", "0.1.png", "0.15.png", "0.2.png"],
    "... of which few are uneven": [f"frame_{n / 20}.jpg" for n in range(21)],
}


@pytest.mark.parametrize("names", UNCLEAR.values(), ids=UNCLEAR)
def test_an_unclear_order_of_frames_is_refused_with_two_of_them(tmp_path, names):
    tree(tmp_path / "clip", *names)
    for read in (lambda path: frames_of(path, [1, 2]), frames.count_frames):
        message = refusal("clip (is not clear.*frame000001.jpg|holds two series)", read, tmp_path / "clip")
        assert sum(name in message for name in names) >= 2


def test_images_of_more_than_8_bits_are_refused_because_their_range_is_unknown(tmp_path):
    grey = (np.arange(64).reshape(8, 8) * 1000).astype(np.uint16)
    write_video(tmp_path / "1.png", [np.dstack([grey] * 3)], "png", "rgb48be")
    refusal("1.png has more than 8 bits .* scale the frames", frames_of, tmp_path, [1])
    for dtype, suffix in (("uint16", "png"), ("int32", "tif"), ("float32", "tif")):
        Image.fromarray(grey.astype(dtype)).save(tmp_path / f"2.{suffix}")
        refusal(f"2.{suffix} has more than 8 bits .* scale the frames", frames_of, tmp_path, [2])
        (tmp_path / f"2.{suffix}").unlink()
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)  # 5, 6 and 5 bits of 16 are not more
    header = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 16, 3, 128, 0, 0, 0, 0) + masks
    write(tmp_path / "3.bmp", struct.pack("<2sIII", b"BM", 194, 0, 66) + header + bytes([0, 0xF8]) * 64)
    assert (frames.read_image(str(tmp_path / "3.bmp"), 3) == (255, 0, 0)).all()


def test_damaged_exif_data_gives_no_warning(tmp_path):
    exif_turned(tmp_path, make_images(1, 20, 48, 64))
    code = f"import frames; print(len(list(frames.read_frames({str(tmp_path)!r}, list(range(1, 10))))))"
    done = run(sys.executable, "-c", code, cwd=REPO / "Conv3D")
    assert (done.stdout, done.stderr) == ("9\n", "")


CLOCKS = {  # the seconds at which the parts of a joined file start, and those at which they are shown
    "back": ((100, 10), (0, 0.48)),
    "far ahead, then back": ((10, 3000, 10), (0, 0.48, 0.96)),
    "a still moment": ((10, 14), (0, 4)),
}


@pytest.mark.parametrize("case", CLOCKS)
def test_times_go_on_where_the_clock_of_a_file_jumps(case, tmp_path):
    starts, shown = CLOCKS[case]
    with open(tmp_path / "joined.ts", "wb") as joined:
        for start in starts:
            times = [1000 * start + 40 * number for number in range(12)]
            path = write_video(tmp_path / "part.ts", make_images(1), "libx264", times=times, bf="0")
            joined.write(path.read_bytes())
    times = frames.frame_times(str(tmp_path / "joined.ts"))
    expected = [start + number / 25 for start in shown for number in range(12)]
    assert times == pytest.approx(expected, abs=1e-4)


def test_hdr_is_known_by_its_transfer_function(tmp_path):
    for transfer, expected in (("smpte2084", True), ("arib-std-b67", True), ("bt709", False)):
        path = write_video(tmp_path / f"{transfer}.mp4", make_images(0, 3), "libx264",
                           **{"x264-params": f"transfer={transfer}"})
        assert frames.is_hdr(str(path)) == expected


# ------------------------------------------------------------------------------ not a video, or the system

UNREADABLE = {  # files below data_path, and their content
    "a frame that is no picture": ("video/frame000001.jpg", b"x"),
    "an empty frame": ("video/img1.png", b""),
    "a folder without numbered pictures": ("video/cover.png", b"x"),
    "an empty file": ("video.avi", b""),
    "a file of rubbish": ("video.avi", b"RIFF" * 100),
    "a text named .mp4": ("video.mp4", b"<html>404</html>"),
}


@pytest.mark.parametrize("file, content", UNREADABLE.values(), ids=UNREADABLE)
def test_a_video_without_a_readable_frame_is_an_unreadable_video(tmp_path, file, content):
    write(tree(tmp_path, file) / file, content)
    with pytest.raises(UnreadableVideo, match="video.*(cannot|can) be read"):
        next(read_clips(str(tmp_path / file.split("/")[0]), [[1, 2, 3]], 8, 8))


def sound(path: Path, cover: bool) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        if cover:  # the picture of a song
            picture = container.add_stream("mjpeg", rate=25)
            picture.height, picture.width, picture.pix_fmt = 48, 64, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic.value
            container.mux(picture.encode(to_frame(make_images(0, 1, 48, 64)[0])))
            container.mux(picture.encode())
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_file_without_a_video_stream_is_called_that(tmp_path):
    text = write(tmp_path / "list.txt", "Bend/1.mp4\n" * 500)  # which FFmpeg would play as text art
    for path in (sound(tmp_path / "sound.mp4", False), sound(tmp_path / "song.mp4", True), text):
        with pytest.raises(UnreadableVideo, match=rf"{path.name} has no video stream"):
            frames_of(path, [1])
        assert frames.frame_rate(str(path)) is None


def failing_file(error: Exception, begin: float, times: int):
    """Files that the system fails to read, from a part of their length on, so many times."""
    class FailingFile(io.FileIO):
        def read(self, size: int = -1) -> bytes:
            nonlocal times
            if times and self.tell() >= begin * os.path.getsize(self.name):
                times -= 1
                raise error
            return super().read(min(size, 2048) if size > 0 else size)

    return FailingFile


def fail(monkeypatch, error: Exception, begin: float, times: int = 1000) -> None:
    """Let reading of images and video files fail."""
    file, open_image = failing_file(error, begin, times), Image.open
    monkeypatch.setattr(frames.Image, "open", lambda path, formats: open_image(file(path), formats=formats))
    monkeypatch.setattr(frames, "VideoFile", type("VideoFile", (frames.VideoFile, file), {}))


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """A class folder with a folder of frames and a file."""
    root, images = tmp_path_factory.mktemp("stored"), make_images(0, 20, 96, 128)
    write_frames(root / "Bend" / "folder", images)
    write_video(root / "Bend" / "film.avi", images, "mjpeg")
    return root


AGAIN = "the video itself may be fine; a training run continues with --resume"
NUMBERS = {name: getattr(errno, name) for name in (
    "ESTALE", "EIO", "ETIMEDOUT", "ENOTCONN", "ENOENT", "EACCES", "ENODEV")}
SYSTEM = {name: (OSError(number, "x"), f"{re.escape(os.strerror(number))}.*{AGAIN}")
          for name, number in NUMBERS.items()} | {
    "handles": (OSError(errno.EMFILE, "x"), "Too many open files.*lower --num_workers.*ulimit"),
    "memory": (MemoryError(), "memory is full: lower --batch_size")}


@pytest.mark.parametrize("error, message", SYSTEM.values(), ids=SYSTEM)
@pytest.mark.parametrize("begin", [0, 0.5], ids=["at opening", "in the middle"])
@pytest.mark.parametrize("name", ["folder", "film.avi"])
def test_an_error_of_the_system_is_not_damage(stored, monkeypatch, name, begin, error, message):
    fail(monkeypatch, error, begin)
    refusal(f"{name}.*{message}", frames_of, stored / "Bend" / name, list(range(1, 21)))


@pytest.mark.parametrize("suffix, codec", {".avi": "mjpeg", ".mp4": "libx264", ".mkv": "libx264",
                                           ".ts": "mpeg2video", ".webm": "libvpx-vp9"}.items())
def test_an_error_of_the_system_that_does_not_last_costs_no_frame(tmp_path, monkeypatch, suffix, codec):
    path = write_video(tmp_path / f"film{suffix}", make_images(0, 20, 96, 128), codec)
    whole = frames_of(path, list(range(1, 21)))
    for begin in (0, 0.3, 0.9):
        with monkeypatch.context() as patch:
            fail(patch, OSError(errno.EIO, "x"), begin, times=1)
            found = frames_of(path, list(range(1, 21)))
        assert list(found) == list(range(1, 21))
        assert all(np.array_equal(found[number], whole[number]) for number in whole)


@pytest.mark.parametrize("name", ["folder", "film.avi"])
def test_a_mistake_in_code_is_not_damage_and_its_traceback_names_the_file(stored, monkeypatch, name):
    monkeypatch.setattr(frames, "OPEN_OPTIONS", {"no_such_option": 1})
    monkeypatch.setattr(frames, "image_pixels", lambda image, channels: image.no_such_method())
    with pytest.raises((TypeError, AttributeError), match="no_such") as raised:
        frames_of(stored / "Bend" / name, [1])
    assert any(name in note for note in raised.value.__notes__)


@pytest.mark.parametrize("name", ["ESTALE", "EIO", "ENOTCONN"])
@pytest.mark.parametrize("call", ["scandir", "listdir"])
def test_a_drive_that_went_away_at_listing_leaves_no_smaller_data_set(stored, monkeypatch, call, name):
    real, folder, number = getattr(os, call), str(stored / "Bend" / "folder"), getattr(errno, name)

    def failing(path):
        if path == folder:
            raise OSError(number, os.strerror(number), path)
        return real(path)

    monkeypatch.setattr(os, call, failing)
    read, path = (frames.count_frames, folder) if call == "listdir" else (find_videos, str(stored))
    refusal(f"{re.escape(folder)}.*{re.escape(os.strerror(number))}", read, path)


def test_what_ffmpeg_calls_an_error_of_input_is_damage(tmp_path):
    path = write_video(tmp_path / "film.mkv", make_images(0, 5, 16, 16))
    write(path, path.read_bytes()[:100])  # its header
    with pytest.raises(av.FFmpegError) as raised:
        av.open(str(path))
    assert raised.value.errno == errno.EIO
    with pytest.raises(UnreadableVideo, match="film.mkv cannot be read as a video: Input/output error"):
        frames_of(path, [1])
    refusal(f"gone.mkv: No such file.*{AGAIN}", frames_of, tmp_path / "gone.mkv", [1])
