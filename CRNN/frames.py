"""What is in a file or a frame folder: its frames by number, their times, their number, the frame rate.

    1. Frames and clips        read_frames, read_clips, read_image
    2. Frame folders           list_images
    3. Video files             read_video_file, decode
    4. Opening                 open_video, reading
    5. Numbers and times       count_frames, frame_times, frame_rate, video_state

A video is a file, a part of a file, or a folder of frames. A clip is the tensor of some of its frames, which
are numbered from 1. Seconds are those that a player shows: they begin at 0 with the file.

This file imports only runs.py. It is the same in Conv3D/, CRNN/ and ResNetCRNN/. Edit the one in Conv3D/ and
copy it to the others.
"""
import contextlib
import errno
import functools
import hashlib
import io
import math
import os
import platform
import re
import struct
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from itertools import chain, islice

import av
import numpy as np
import PIL
import torch
import torch.nn.functional as F
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from PIL import ExifTags, Image
from PIL.Image import Transpose

from runs import OUT_OF_MEMORY, InputError, first_line, join_counts, report, user_file

warnings.filterwarnings("ignore", module="PIL")  # of damaged EXIF data, from every worker in every epoch

# ------------------------------------------------------------------------------ 1. Frames and clips

Part = tuple[float, float]  # seconds: the frames of a file from the first on and before the second
WHOLE = (0.0, math.inf)
VERSIONS = f"Python {platform.python_version()}, av {av.__version__}, Pillow {PIL.__version__}"
TOLERANCE = 0.0005  # seconds: times in tables are rounded to milliseconds
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff")
IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
# how EXIF orientations show a picture; ImageOps.exif_transpose fails if other EXIF data is damaged
EXIF_TURNS = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM,
              5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE,
              8: Transpose.ROTATE_90}
DAMAGED_IMAGE = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)


class UnreadableVideo(InputError):
    """A video without a readable frame."""


def read_frames(path: str, frame_numbers: list[int], channels: int = 3,
                part: Part = WHOLE) -> Iterator[tuple[int, np.ndarray | Exception]]:
    """Yield (number, pixels) of frames of a frame folder, a video file or a part of it, in order.

    pixels: uint8 (H, W, C), C = 3 colour or 1 grey, as a viewer shows them; or the error of a frame that
    cannot be read. If the video is shorter, its last readable frame comes last, asked for or not.

    Raises UnreadableVideo if it is not a video, InputError if the system fails.
    """
    if os.path.isdir(path):
        yield from read_frame_folder(path, frame_numbers, channels)
    else:
        yield from read_video_file(path, frame_numbers, channels, part)


def resize(pixels: np.ndarray, img_x: int, img_y: int) -> torch.Tensor:
    """uint8 (H, W, C) to (C, img_x, img_y), bilinear as in Pillow, within 1/255."""
    X = torch.from_numpy(np.array(pixels, order="C")).permute(2, 0, 1)  # (C, H, W)
    return F.interpolate(X[None], size=(img_x, img_y), mode="bilinear", antialias=True)[0]


def read_clips(path: str, clips: list[list[int]], img_x: int, img_y: int, channels: int = 3,
               part: Part = WHOLE) -> Iterator:
    """Read clips of a video, given by their frame numbers and ordered by time. The video is decoded once.

    Yields, for each clip:
        X: uint8, (T, C, img_x, img_y), 0..255, C = 3 colour or 1 grey
        unreadable: the numbers of the frames that could not be read, list of int
        end: the last frame number of the clip, or of the video if that is shorter

    Raises UnreadableVideo if no frame can be read, InputError if the system fails.
    """
    frames = read_frames(path, sorted(set().union(*clips)), channels, part)
    images, newest, last, cause = {}, 0, 0, None  # {frame number: (C, img_x, img_y)}, their newest, last read
    for numbers in clips:
        images = {number: X for number, X in images.items() if number >= numbers[0] or number == newest}
        while last < numbers[-1] or len(clips) > 1 and not images:  # read on to the end of the clip
            number, pixels = next(frames, (None, None))
            if number is None:
                break
            last = max(last, number)
            if isinstance(pixels, Exception):
                cause = cause or pixels
            else:
                images[number], newest = resize(pixels, img_x, img_y), number
        end = min(last, numbers[-1])
        # a short video holds its last frame; an unreadable frame is replaced by the nearest of the clip
        shown = [number for number in images if number in numbers or end < numbers[-1] and number == newest]
        if not shown and (len(clips) == 1 or not images):
            raise UnreadableVideo(f"{path}: none of its frames {numbers[0]} to {numbers[-1]} can be read "
                                  f"({explain_file(path, cause or ValueError('there is none'))})")
        nearest = [min(shown or images, key=lambda other: abs(other - number)) for number in numbers]
        unreadable = [number for number in numbers if number not in images and number <= end]
        yield torch.stack([images[number] for number in nearest]), unreadable, end


def read_image(path: str, channels: int) -> np.ndarray:
    """Return the pixels of an image, uint8 (H, W, C), turned as its EXIF data says."""
    with Image.open(path, formats=IMAGE_FORMATS) as image:
        if image.mode == "F" or image.mode.startswith("I") or re.search("(?<!BGR);16", str(image.tile)):
            raise InputError(f"{path} has more than 8 bits per value: scale the frames to 8 bits")
        turn = None
        with contextlib.suppress(*DAMAGED_IMAGE):  # of the EXIF data; the pixels may be fine
            turn = EXIF_TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
        if turn is not None:
            image = image.transpose(turn)
        if image.has_transparency_data:
            image = put_on_black(image.convert("RGBA"))
        return image_pixels(image, channels)


def put_on_black(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)


def image_pixels(image: Image.Image, channels: int) -> np.ndarray:
    mode = "RGB" if channels == 3 else "L"
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels.reshape(*pixels.shape[:2], channels)


# ------------------------------------------------------------------------------ 2. Frame folders


def frame_path(folder: str, number: int) -> str:
    return os.path.join(folder, f"frame{number:06d}.jpg")


def find_series(image_names: list[str]) -> list[list[str]]:
    """Group the names of images that differ only in their numbers, the largest group first.

    Names without a number are in no group.
    """
    series = defaultdict(list)
    for name in image_names:
        stem = os.path.splitext(name)[0]
        if re.search("[0-9]", stem):
            series[re.sub("[0-9]+", "0", stem)].append(name)
    return sorted(series.values(), key=len, reverse=True)


def list_images(folder: str) -> dict[int, str]:
    """Return {frame number: path} of a frame folder: its largest series of images, ordered by their numbers.

    frame000001.jpg, ... have the number in their name, others are counted from 1. Raises InputError if two
    series are equally large, or if the order is not clear.
    """
    with user_file(folder):
        series = find_series([name for name in os.listdir(folder)
                              if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")])
    if not series:
        return {}
    if len(series) > 1 and len(series[0]) == len(series[1]):
        raise InputError(f"{folder} holds two series of images of equal size, for example {min(series[0])} "
                         f"and {min(series[1])}: move one of them to another folder")
    ucf101 = {int(name[5:11]): name for name in series[0] if re.fullmatch(r"frame[0-9]{6}\.jpg", name)}
    if len(ucf101) == len(series[0]) and min(ucf101) == 1:
        return {number: os.path.join(folder, name) for number, name in ucf101.items()}
    names = order_names(folder, series[0])
    return {number: os.path.join(folder, name) for number, name in enumerate(names, start=1)}


def order_names(folder: str, names: list[str]) -> list[str]:
    """Order names by their numbers, from the first number in a name to the last."""
    stems = {name: os.path.splitext(name)[0] for name in names}
    whole = {name: [int(text) for text in re.findall("[0-9]+", stem)] for name, stem in stems.items()}
    number = re.compile("[0-9]+(?:[.,][0-9]+)?")
    decimal = {name: [Decimal(text.replace(",", ".")) for text in number.findall(stem)]
               for name, stem in stems.items()}
    names = sorted(names, key=whole.get)
    for name, other in zip(names, names[1:], strict=False):
        if whole[name] == whole[other] or decimal[name] > decimal[other]:
            raise InputError(f"the order of the frames in {folder} is not clear, for example of {name} and "
                             f"{other}: name them frame000001.jpg, frame000002.jpg, ...")
    return names


def read_frame_folder(folder: str, frame_numbers: list[int], channels: int) -> Iterator:
    """Yield as read_frames does."""
    images = list_images(folder)
    end = max(images, default=0)
    for number in sorted({min(number, end) for number in frame_numbers} - {0}):
        if number not in images:
            yield number, ValueError(f"frame {number} is missing")
            continue
        with reading(images[number]):
            try:
                pixels = read_image(images[number], channels)
            except DAMAGED_IMAGE as error:
                if getattr(error, "errno", None):  # of the system
                    raise
                pixels = ValueError(f"{images[number]}: {explain_file(images[number], error)}")
        yield number, pixels


# ------------------------------------------------------------------------------ 3. Video files


def read_video_file(path: str, frame_numbers: list[int], channels: int, part: Part) -> Iterator:
    """Yield as read_frames does. Stop after the last frame needed."""
    wanted, readable, convert = set(frame_numbers), None, FrameConverter(channels)
    for number, _, frame in decode(path, part):
        if number in wanted:
            yield number, frame if isinstance(frame, Exception) else convert(frame)
        if number >= frame_numbers[-1]:
            return
        if not isinstance(frame, Exception):
            readable = number, frame
    if readable and readable[0] not in wanted:
        yield readable[0], convert(readable[1])


class FrameConverter:
    """Convert the frames of a video file to pixels, uint8 (H, W, C), as a viewer shows them."""

    def __init__(self, channels: int):
        self.channels, self.reformatter, self.matrix = channels, VideoReformatter(), None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray | Exception:
        """Return pixels, or the error of a frame that cannot be converted."""
        if self.matrix is None:  # once, because a frame that was asked for its side data is freed late
            matrix = frame.side_data.get("DISPLAYMATRIX")  # of a phone held upright, a front camera
            self.matrix = [1, 0, 0, 0, 1] if matrix is None else np.frombuffer(matrix, np.int32).tolist()
        try:
            pixels = self.to_pixels(frame)
        except av.FFmpegError:  # colours that the converter does not know: BT.601, as in players
            frame.colorspace, frame.color_trc, frame.color_primaries = 5, 2, 2
            try:
                pixels = self.to_pixels(frame)
            except av.FFmpegError as error:
                return error
        a, b, _, c, d, *_ = self.matrix  # (x, y) is shown at (ax + cy, bx + dy), to the nearest quarter turn
        if abs(b) + abs(c) > abs(a) + abs(d):
            pixels, a, d = pixels.swapaxes(0, 1), c, b
        return pixels[::-1 if d < 0 else 1, ::-1 if a < 0 else 1]

    def to_pixels(self, frame: av.VideoFrame) -> np.ndarray:
        if any(component.is_alpha for component in frame.format.components):
            pixels = self.reformatter.reformat(frame, format="rgba", threads=1).to_ndarray()
            return image_pixels(put_on_black(Image.fromarray(pixels)), self.channels)
        name = "rgb24" if self.channels == 3 else "gray"
        pixels = self.reformatter.reformat(frame, format=name, threads=1).to_ndarray()
        return pixels.reshape(*pixels.shape[:2], self.channels)


def decode(path: str, part: Part = WHOLE) -> Iterator[tuple[int, float, av.VideoFrame | Exception]]:
    """Yield (number, seconds, frame) of a file's frames in a part, from 1, as far as the file can be read.

    frame: an av.VideoFrame, or the error of a damaged one. A damaged packet costs only its own frame.
    A part is reached by the index of the file. If the first frame from there is late, it is looked for a
    second earlier, two, four, ..., and at last from the beginning.

    Raises UnreadableVideo if there is no frame, InputError if the system fails.
    """
    start, end = part[0] - TOLERANCE, part[1] - TOLERANCE
    for earlier in (0, 1, 2, 4, 8, 16, math.inf):
        with open_video(path) as (container, stream):
            frames = timed_frames(container, stream, start - earlier)
            first = next(frames, (math.inf, None))
            if start - earlier > 0 and first[0] > start:
                continue
            number = 0
            for seconds, frame in chain([first], frames):
                if seconds >= end:
                    break
                if seconds >= start:
                    number += 1
                    yield number, seconds, frame
        if not number:
            where = "" if part == WHOLE else f" between seconds {part[0]:g} and {part[1]:g}"
            raise UnreadableVideo(f"{path} has no frame{where}")
        return


def timed_frames(container, stream, seek_to: float) -> Iterator[tuple[float, av.VideoFrame | Exception]]:
    """Yield (seconds, frame) from the key frame before `seek_to` on, or from the beginning if it is <= 0."""
    # .avi holds no times: FFmpeg counts, wrongly if pictures are stored in another order. In .mpg few frames
    # have a time, and those of the others depend on where reading begins
    is_counted = container.format.name == "avi" and stream.codec_context.has_b_frames
    step = 1 / (stream.average_rate or 25)
    seconds = -step
    if seek_to > 0 and not is_counted and container.format.name != "mpeg":
        try:
            seek(container, stream, seek_to)
        except av.FFmpegError:  # it has no index
            return
        seconds = math.inf  # until a frame tells it
    for time, frame in decoded_frames(container, stream):
        seconds = float(seconds + step) if time is None or is_counted else time - start_of(container)
        yield seconds, frame


def decoded_frames(container, stream) -> Iterator[tuple[float | None, av.VideoFrame | Exception]]:
    """Yield (time stamp, frame), or (time stamp, error) of a damaged packet, in the order of showing."""
    decoder, damaged, frame = alpha_decoder(stream) or stream.codec_context, [], None
    try:
        for packet in container.demux(stream):  # the last one is empty, and flushes the decoder
            try:
                frames = decoder.decode(packet)
            except MemoryError:
                raise
            except av.FFmpegError as error:
                damaged.append((packet.pts and float(packet.pts * packet.time_base), error))
                continue
            for frame in frames:
                for entry in [*damaged]:
                    if entry[0] is None or frame.time is None or entry[0] < frame.time:
                        damaged.remove(entry)
                        yield entry
                yield frame.time, ValueError("it is damaged") if frame.is_corrupt else frame
    except MemoryError:
        raise
    except av.FFmpegError as error:  # what follows cannot be read
        if frame is None and not damaged:
            raise UnreadableVideo(f"{container.name}: {explain_file(container.name, error)}") from error
    yield from damaged


def alpha_decoder(stream) -> av.CodecContext | None:
    """Return a decoder for VP8 and VP9 with transparency, which FFmpeg's own decoders leave out."""
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
    if not name or stream.metadata.get("alpha_mode") != "1":
        return None
    return av.CodecContext.create(name, "r")


# ------------------------------------------------------------------------------ 4. Opening

# titles may be in any encoding; PyAV 19 takes them as they are, and has no such option
OPEN_OPTIONS = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


class VideoFile(io.FileIO):
    """A file that remembers an error of the system, because FFmpeg may take it for the end of the file."""

    error = None

    def read(self, size: int = -1) -> bytes:
        position = self.tell()
        try:
            return super().read(size)
        except (OSError, MemoryError):  # of a network drive, it may not last
            try:
                self.seek(position)
                return super().read(size)
            except (OSError, MemoryError) as error:
                self.error = error
                raise

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except OSError:  # damaged data may ask for a position before the file
            return -1


@contextlib.contextmanager
def open_video(path: str) -> Iterator[tuple]:
    """Open a video file and its best stream, which is not a preview or a cover picture.

    Raises UnreadableVideo if there is none, and InputError if the system fails.
    """
    with reading(path), VideoFile(path) as file:
        try:
            container = av.open(file, **OPEN_OPTIONS)
        except MemoryError:
            raise
        except av.FFmpegError as error:
            raise file.error or UnreadableVideo(f"{path} cannot be read as a video: "
                                                f"{explain_file(path, error)}") from error
        with container:
            streams = [stream for stream in container.streams.video
                       if not stream.disposition & Disposition.attached_pic  # the cover picture of a song
                       and stream.codec_context is not None
                       and stream.codec_context.name != "ansi"]  # of a text
            if not streams:
                raise UnreadableVideo(f"{path} has no video stream that can be decoded")
            yield container, max(streams, key=rank_stream)
        if file.error:
            raise file.error


def rank_stream(stream: av.VideoStream) -> tuple[bool, int]:
    """Rank streams as the ffmpeg program does: the default stream, else the largest; a still picture last."""
    still = stream.codec_context.name in ("mjpeg", "png")
    default = stream.disposition & Disposition.default
    return not still, stream.width * stream.height + (5_000_000 if default else 0)


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn an error of the system into an InputError that says what it is; name the file in any other."""
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path}: {OUT_OF_MEMORY}") from error
    except OSError as error:
        remedy = "lower --num_workers, or raise ulimit -n" if error.errno == errno.EMFILE else (
            "the video itself may be fine; a training run continues with --resume")
        reason = os.strerror(error.errno) if error.errno else error
        raise InputError(f"{path}: {reason} ({remedy})") from error
    except Exception as error:
        error.add_note(f"while reading {path}")
        raise


def explain_file(path: str, error: Exception) -> str:
    """Say in some words why a file cannot be read: what it is in place of a video, or the reader's words."""
    start = b"\0"
    if os.path.isfile(path):
        with open(path, "rb") as file:
            start = file.read(500)
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: run git lfs pull"
    if start.isascii() and b"\0" not in start:
        return "it is text"
    return getattr(error, "strerror", None) or first_line(error)


def start_of(container) -> float:
    """Return the time stamp, in seconds, at which a player shows 0."""
    return (container.start_time or 0) / av.time_base


def seek(container, stream, seconds: float) -> None:
    container.seek(int((seconds + start_of(container)) / stream.time_base), stream=stream)


# ------------------------------------------------------------------------------ 5. Numbers and times


def count_frames(path: str, part: Part = WHOLE) -> int:
    """Count the frames of a video. A file is decoded, because headers may be wrong."""
    if os.path.isdir(path):
        return max(list_images(path), default=0)
    return max(number for number, *_ in decode(path, part))


def estimate_frames(path: str, part: Part = WHOLE) -> int:
    """Count the frames of a video without decoding, by the packets of its file. Nearly always exact."""
    if os.path.isdir(path):
        return count_frames(path)
    count, start, end = 0, part[0] - TOLERANCE, part[1] - TOLERANCE
    with open_video(path) as (container, stream), contextlib.suppress(av.FFmpegError):
        if start > 1:
            seek(container, stream, start - 1)  # .ts begins late
        for packet in container.demux(stream):
            if part != WHOLE:
                stamps = (packet.pts, packet.dts)
                shown, decoded = (math.nan if stamp is None else float(stamp * stream.time_base)
                                  - start_of(container) for stamp in stamps)
                if decoded >= end:
                    break
                if not start <= shown < end:
                    continue
            count += packet.size > 0 and not packet.is_discard
    return count


def frame_times(path: str, part: Part = WHOLE) -> list[float]:
    """Return the seconds at which the frames of a file are shown. The file is decoded."""
    times = np.array([seconds for _, seconds, _ in decode(path, part)])
    steps = np.diff(times)
    usual = np.median(steps[steps > 0]) if (steps > 0).any() else 0.04
    # the clock jumps in joined files and where a recorder was restarted; 10 seconds as in ffmpeg
    jumps = (steps < -usual / 2) | (steps > max(10, steps[(steps > 0) & (steps <= 10)].sum()))
    return np.cumsum([max(0, times[0]), *np.where(jumps, usual, steps.clip(0))]).tolist()


def frame_rate(path: str) -> float | None:
    """Return the frames per second of a file, by its first time stamps. None if unknown, or for a folder."""
    if not os.path.isfile(path):
        return None
    with contextlib.suppress(UnreadableVideo, av.FFmpegError), open_video(path) as (container, stream):
        packets = islice(container.demux(stream), 100)
        times = sorted({packet.pts for packet in packets if packet.size and packet.pts is not None})
        if len(times) > 1:
            rate = 1 / float(np.median(np.diff(times)) * stream.time_base)
            header = float(stream.average_rate or rate)
            return header if 1.9 < rate / header < 2.1 else rate  # the packets of interlaced video are fields
    return None


def usual_frame_rate(videos: list[tuple[str, str]]) -> float | None:
    """Return the most common frame rate of up to 100 files of (path, action), None if there is none.

    Report other rates, and HDR video.
    """
    actions = defaultdict(set)  # of a recording several
    for path, action in videos:
        actions[path].add(action)
    files = list(filter(os.path.isfile, actions))
    files = files[::math.ceil(len(files) / 100) or 1]
    hdr = [path for path in files if is_hdr(path)]
    if hdr:
        counts = join_counts(Counter(action for path in hdr for action in sorted(actions[path])))
        report("HDR", f"{len(hdr):,} of {len(files):,} training files checked are HDR video, pale here "
               f"({counts}): if only some actions are, the model may learn the colours")
    rates = list(filter(None, map(frame_rate, files)))
    # phones write 29.4, 29.7, ...: near ones count as one
    usual = max(rates, key=lambda rate: sum(abs(rate - other) < 1 for other in rates), default=None)
    unusual = sum(not 2 / 3 < rate / usual < 1.5 for rate in rates)
    if unusual:
        report("Rate", f"{unusual:,} of {len(rates):,} training files checked do not have the usual "
               f"{usual:.0f} frames per second: movements in them look faster or slower")
    return usual


@functools.cache
def file_seconds(path: str) -> float:
    """Return how long a video file is, as its header says; infinity if that is unknown."""
    with contextlib.suppress(UnreadableVideo), open_video(path) as (container, _):
        return container.duration / av.time_base if container.duration else math.inf
    return math.inf


def is_hdr(path: str) -> bool:
    """Return whether a file is HDR video (PQ or HLG), which looks pale here."""
    with contextlib.suppress(UnreadableVideo), open_video(path) as (_, stream):
        return stream.codec_context.color_trc in (16, 18)
    return False


def video_state(name: str, path: str, frame_numbers: list[int], clips: int) -> str:
    """Return a hash that changes with the video: the name, and the size and time of its file or frames."""
    paths = [path]
    if os.path.isdir(path):
        images = list_images(path)
        used = {*frame_numbers, max(images, default=0)}  # a clip may hold the last one
        paths = [image for number, image in images.items() if clips > 1 or number in used]
    with user_file(path):
        states = [(state.st_size, state.st_mtime_ns) for state in map(os.stat, sorted(paths))]
    return hashlib.sha256(repr((name, states)).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def hash_file(path: str) -> str:
    """Return size and hash of a file, or where a folder lies. 16 MB tell even long videos apart."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return f"{os.path.getsize(path)} {hashlib.sha256(file.read(1 << 24)).hexdigest()}"
    return os.path.realpath(path)
