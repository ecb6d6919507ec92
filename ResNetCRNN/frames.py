"""What is in a file or a frame folder: its frames by number, their times, their number, the frame rate.

    1. Frames of a video       read_frames
    2. Frame folders           list_images, read_image
    3. Video files             decode, open_video
    4. Damage or the system    refuse_system_error
    5. Numbers and times       count_frames, frame_times, frame_rate

A video is a file or a folder of frames. Frames are numbered from 1.

This file imports only runs.py. It is the same in Conv3D/, CRNN/ and ResNetCRNN/. Edit the one in Conv3D/ and
copy it to the others.
"""
import contextlib
import errno
import functools
import os
import re
import warnings
from collections.abc import Callable, Iterator
from decimal import Decimal

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from PIL import ExifTags, Image

from runs import OUT_OF_MEMORY, InputError, user_file

warnings.filterwarnings("ignore", module="PIL")  # of damaged EXIF data, from every worker in every epoch

# ------------------------------------------------------------------------------ 1. Frames of a video

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff")
IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
# how EXIF orientations 2 to 8 show a picture: (x, y) at (ax + cy, bx + dy), as a, b, c, d
EXIF_TURNS = {2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1), 5: (0, 1, 1, 0), 6: (0, 1, -1, 0),
              7: (0, -1, -1, 0), 8: (0, -1, 1, 0)}
# numbers of the system's errors that FFmpeg also uses for damaged data
ALSO_DAMAGE = {errno.EIO, errno.EINVAL, errno.EPERM}


class UnreadableVideo(InputError):
    """A video without a readable frame."""


def read_frames(path: str, frame_numbers: list[int], channels: int = 3) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (number, pixels) of the frames that can be read, of a frame folder or video file, in order.

    pixels: uint8 (H, W, C), C = 3 colour or 1 grey, turned as a viewer shows them.
    If the video is shorter, its last readable frame comes last, asked for or not. If the last frame asked for
    cannot be read, the next one may follow.

    Raises InputError if the system fails, or if pictures of 16 bits use only a small part of their range.
    """
    read = read_frame_folder if os.path.isdir(path) else read_video_file
    for number, pixels in read(path, frame_numbers, channels):
        if pixels.dtype == np.uint16:
            if pixels.max() < 2**15:
                refuse_dark_16_bits(path, read)
            pixels = (pixels >> 8).astype(np.uint8)
        yield number, pixels


@functools.cache  # a video is read for this only once in a process
def refuse_dark_16_bits(path: str, read: Callable) -> None:
    """Raise InputError if a video of 16 bits per pixel uses less than half of its range in all frames."""
    frames = read(path, range(1, count_frames(path) + 1), 1)
    ranges = [(pixels.min(), pixels.max()) for _, pixels in frames]
    lowest, highest = min(low for low, _ in ranges), max(high for _, high in ranges)
    if 0 < highest < 2**15:
        raise InputError(f"{path} has 16 bits per pixel, but only values {lowest:,} to {highest:,} of "
                         "65,535: scale the frames to 8 bits")


# ------------------------------------------------------------------------------ 2. Frame folders


def frame_path(folder: str, number: int) -> str:
    return os.path.join(folder, f"frame{number:06d}.jpg")


def has_number(image_name: str) -> bool:
    return re.search("[0-9]", os.path.splitext(image_name)[0]) is not None


def list_images(folder: str) -> dict[int, str]:
    """Return {frame number: path} of a frame folder, in the order of the last number in the images' names.

    frame000001.jpg, ... have that number, other names are counted from 1. Raises InputError if the order is
    not clear.
    """
    with user_file(folder):
        names = sorted(name for name in os.listdir(folder) if name.lower().endswith(IMAGE_SUFFIXES)
                       and not name.startswith(".") and has_number(name))
    ucf101 = {int(name[5:11]): name for name in names if re.fullmatch(r"frame[0-9]{6}\.jpg", name)}
    if names and len(ucf101) == len(names) and min(ucf101) == 1:
        return {number: os.path.join(folder, name) for number, name in ucf101.items()}
    stems = {name: os.path.splitext(name)[0] for name in names}
    whole = {name: int(re.findall("[0-9]+", stem)[-1]) for name, stem in stems.items()}
    number = re.compile("[0-9]+(?:[.,][0-9]+)?(?:e-?[0-9]{1,3})?")
    decimal = {name: Decimal(number.findall(stem)[-1].replace(",", ".")) for name, stem in stems.items()}
    names.sort(key=whole.get)
    for name, other in zip(names, names[1:], strict=False):
        if whole[name] == whole[other] or decimal[name] > decimal[other]:
            raise InputError(f"the order of the frames in {folder} is not clear, for example of {name} and "
                             f"{other}: name them frame000001.jpg, frame000002.jpg, ...")
    return {number: os.path.join(folder, name) for number, name in enumerate(names, start=1)}


def read_frame_folder(folder: str, frame_numbers: list[int], channels: int) -> Iterator:
    """Yield as read_frames does, but uint16 pixels for pictures of 16 bits."""
    images = list_images(folder)
    end = max(images, default=0)
    for number in sorted({min(number, end) for number in frame_numbers} & images.keys()):
        try:
            pixels = read_image(images[number], channels)
        except Exception as error:  # damaged data can raise nearly anything
            refuse_system_error(error, images[number])
        else:
            yield number, pixels


def read_image(path: str, channels: int) -> np.ndarray:
    """Return the pixels of an image (H, W, C), turned as its EXIF data says: uint8, or uint16 of 16 bits."""
    with Image.open(path, formats=IMAGE_FORMATS) as image:
        is_16_bit_colour = ";16" in str(image.tile)  # Pillow keeps the upper 8 bits of these
        try:
            turn = EXIF_TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
        except Exception:  # damaged EXIF data can raise nearly anything; the pixels are fine
            turn = None
        if image.mode == "F" or image.mode.startswith("I"):
            pixels = np.asarray(image)
            if pixels.dtype.kind == "f" or pixels.max() > 65535 or pixels.min() < 0:
                raise InputError(f"{path} has 32 bits per pixel: scale the frames to 8 bits")
            pixels = np.repeat(pixels.astype(np.uint16)[..., None], channels, axis=2)
        else:
            if image.has_transparency_data:  # on black
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
            mode = "RGB" if channels == 3 else "L"
            pixels = np.asarray(image if image.mode == mode else image.convert(mode))
            pixels = pixels.reshape(*pixels.shape[:2], channels)
            if is_16_bit_colour:
                pixels = pixels.astype(np.uint16) << 8
    return turn_pixels(pixels, *turn) if turn else pixels


def turn_pixels(pixels: np.ndarray, a: float, b: float, c: float, d: float) -> np.ndarray:
    """Turn and mirror (H, W, C): (x, y) is shown at (ax + cy, bx + dy), to the nearest quarter turn."""
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[::-1 if d < 0 else 1, ::-1 if a < 0 else 1]


# ------------------------------------------------------------------------------ 3. Video files


def read_video_file(path: str, frame_numbers: list[int], channels: int) -> Iterator:
    """Yield as read_frames does, but uint16 pixels for a video of 16 bits. Stop after the last one needed."""
    wanted, last, converter = set(frame_numbers), None, VideoReformatter()
    formats = ("gray", "gray16le") if channels == 1 else ("rgb24", "rgb48le")

    def to_pixels(frame):
        is_16_bit = frame.format.components[0].bits == 16
        converted = converter.reformat(frame, format=formats[is_16_bit], threads=1).to_ndarray()
        return turn_pixels(converted.reshape(frame.height, frame.width, channels), a, b, c, d)

    for number, frame in decode(path):
        if last is None:  # once, because a frame that was asked for its side data is freed late
            matrix = frame.side_data.get("DISPLAYMATRIX")  # of a phone held upright, a front camera
            matrix = [1, 0, 0, 0, 1] if matrix is None else np.frombuffer(matrix, np.int32).tolist()
            a, b, _, c, d, *_ = matrix
        last = number, frame
        if number in wanted or number > frame_numbers[-1]:
            yield number, to_pixels(frame)
        if number >= frame_numbers[-1]:
            return
    if last and last[0] not in wanted:
        yield last[0], to_pixels(last[1])


def decode(path: str) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield (number, frame) of a file's intact frames, from 1, as far as it can be read.

    A damaged packet costs only its own frame. Raises UnreadableVideo if the file is not a video, and
    InputError if the system fails.
    """
    decoded, lost = 0, []  # lost: when the frames of damaged packets would have been shown
    try:
        with open_video(path) as (container, stream):
            for packet in container.demux(stream):  # the last one is empty, and flushes the decoder
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    if not lost:  # once: it reads the whole file
                        refuse_system_error(error, path)
                    lost.append(packet.pts)
                    continue
                for frame in frames:
                    decoded += 1
                    before = sum(time is None or frame.pts is None or time < frame.pts for time in lost)
                    if not frame.is_corrupt:
                        yield decoded + before, frame
    except Exception as error:  # damaged data can raise nearly anything
        refuse_system_error(error, path)


@contextlib.contextmanager
def open_video(path: str):
    """Open a video file and its best stream, which is not a preview or a cover picture.

    Raises UnreadableVideo if there is none, and InputError if the system fails.
    """
    try:
        # as an absolute path, or take:2.avi would name a protocol; titles may be in any encoding
        container = av.open(os.path.abspath(path), metadata_errors="replace")
    except Exception as error:  # damaged data can raise nearly anything
        refuse_system_error(error, path)
        raise UnreadableVideo(f"{path} cannot be read as a video") from error
    with container:
        streams = [stream for stream in container.streams.video
                   if not stream.disposition & Disposition.attached_pic  # the cover picture of a song
                   and stream.codec_context is not None and stream.codec_context.name != "ansi"]  # of a .txt
        if not streams:
            raise UnreadableVideo(f"{path} has no video stream that can be decoded")
        yield container, max(streams, key=rank_stream)


def rank_stream(stream: av.VideoStream) -> tuple[bool, int]:
    """Rank streams as the ffmpeg program does: the default stream, else the largest; a still picture last."""
    still = stream.codec_context.name in ("mjpeg", "png")
    default = stream.disposition & Disposition.default
    return not still, stream.width * stream.height + (5_000_000 if default else 0)


# ------------------------------------------------------------------------------ 4. Damage or the system


def refuse_system_error(error: Exception, path: str) -> None:
    """Raise InputError if an error while reading comes from the system, not from damaged data.

    A disk or network drive that fails can also look like damage. So if the file itself cannot be read to its
    end, it is the system.
    """
    if isinstance(error, InputError):
        raise error
    if isinstance(error, MemoryError):
        raise InputError(f"{path}: {OUT_OF_MEMORY}") from error
    number = getattr(error, "errno", None)
    if number not in errno.errorcode or isinstance(error, av.FFmpegError) and number in ALSO_DAMAGE:
        try:
            with open(path, "rb") as file:
                while file.read(1 << 20):
                    pass
            return
        except OSError as failure:
            number = failure.errno
    remedy = "lower --num_workers, or raise ulimit -n" if number == errno.EMFILE else (
        "the video itself may be fine; a training run continues with --resume")
    raise InputError(f"{path}: {os.strerror(number)} ({remedy})") from error


# ------------------------------------------------------------------------------ 5. Numbers and times


def count_frames(path: str) -> int:
    """Count the frames of a video. A file is decoded, because headers may be wrong."""
    if os.path.isdir(path):
        return max(list_images(path), default=0)
    return max((number for number, _ in decode(path)), default=0)


def estimate_frames(path: str) -> int:
    """Count the frames of a video without decoding, by the packets of its file. Nearly always exact."""
    if os.path.isdir(path):
        return count_frames(path)
    count = 0
    with open_video(path) as (container, stream), contextlib.suppress(av.FFmpegError):
        for packet in container.demux(stream):
            count += packet.size > 0 and not packet.is_discard
    return count


def frame_times(path: str) -> list[float]:
    """Return the seconds, from 0, at which the frames of a file are shown. The file is decoded."""
    times = []
    for number, frame in decode(path):
        times += [np.nan] * (number - len(times) - 1) + [np.nan if frame.time is None else frame.time]
    times, numbers = np.array(times), np.arange(len(times))
    known = np.isfinite(times)
    if not known.any():
        return (0.04 * numbers).tolist()
    steps = np.diff(np.interp(numbers, numbers[known], times[known]))
    usual = np.median(steps[steps > 0]) if (steps > 0).any() else 0.04
    # the clock jumps in joined files and where a recorder was restarted; 10 seconds as in ffmpeg
    jumps = (steps < -usual / 2) | (steps > max(10, steps[(steps > 0) & (steps <= 10)].sum()))
    return np.cumsum([0, *np.where(jumps, usual, steps.clip(0))]).tolist()


def frame_rate(path: str) -> float | None:
    """Return a file's frames per second; None for an impossible number, and for anything but a video file."""
    rate = 0.0
    if os.path.isfile(path):
        with contextlib.suppress(UnreadableVideo), open_video(path) as (_, stream):
            rate = float(stream.average_rate or 0)
    return rate if 1 <= rate <= 240 else None
