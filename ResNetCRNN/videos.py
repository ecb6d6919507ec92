"""Which videos there are, how they are split, and how far the split can be trusted.

    1. Finding videos      find_videos: a folder or a table becomes a list of Video
    2. Actions             load_action_names, label_videos
    3. Splits              split_videos
    4. Data of a run       load_videos, print_split
    5. Demo data           make_demo_data

A video is a file, a part of one (a recording), or a folder of frames. A source is what the literature calls a
group: the videos of one person or one scene.

This file is the same in Conv3D/, CRNN/ and ResNetCRNN/. Edit the one in Conv3D/ and copy it to the others.
"""
import argparse
import contextlib
import io
import math
import os
import pickle
import re
import shutil
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch.distributed as dist
from PIL import Image

import frames
from frames import IMAGE_SUFFIXES, UnreadableVideo, decode, find_series, frame_path, hash_file
from runs import RANK, TORCHRUN, InputError, abbreviate, first_line, join_counts, replace, report, user_file

# ------------------------------------------------------------------------------ 1. Finding videos

VIDEO_NAME = re.compile(r"v_(?P<action>.+)_g[0-9]+_c[0-9]+")  # v_Biking_g05_c02
GROUP_NAME = re.compile(r".*_g(?P<group>[0-9]+)_c[0-9]+")
VIDEO_SUFFIXES = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp",
                  ".ts", ".mts", ".m2ts", ".ogv", ".gif")
HIDDEN = (".", "@eaDir", "__MACOSX", "fig_UCF101_")  # what systems, network drives and training leave behind
TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validate", "validation", "eval")  # of several, the first
SIDE_WORD = re.compile(rf"(?<![^\W\d_])({'|'.join(TRAIN + TEST)})(set)?(?![^\W\d_])")  # train_256, UCF_val
FORMS = ("--data_path is a folder with <Action>/<video>, <Action>/<source>/<video>, or these below train/ "
         "and test/; or a table, videos.csv, with the columns video, action (and source, split, start, end)")
# columns of a table, and their names in Hugging Face's VideoFolder
COLUMNS = {"video": "file_name", "action": "label", "source": "", "split": "", "start": "", "end": ""}


class Video(NamedTuple):
    name: str  # v_<Action>_gNN_cNN, or the path below data_path without suffix: Bend/anna 1, day1@12.5-18
    path: str  # a video file, or a folder of frames
    action: str
    source: str  # "" if unknown
    given: str = ""  # train or test, where the folders or the table say so
    label: int = -1  # class index: the position of the action in the sorted list
    start: float = 0.0  # of a part of a recording, in seconds
    end: float = math.inf


def name_key(name: str) -> str:
    """Return a name for comparison: case, surrounding blanks and the Unicode form do not matter."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def recording_of(name: str) -> str:
    """Return the name of a video without the times of a part."""
    return re.sub("@[0-9.]+-[0-9.]*$", "", name)


def without_suffix(path: str) -> str:
    stem, suffix = os.path.splitext(path)
    return stem if suffix.lower() in VIDEO_SUFFIXES else path


def find_videos(data_path: str) -> list[Video]:
    """Find the videos of a folder or a table (see FORMS), sorted by name.

    Prints in one line what was skipped. Raises InputError if there is no video, if two videos have one name,
    or if the folder or the table has another form.
    """
    skipped = Counter()
    if os.path.isdir(data_path):
        videos = videos_in_folder(data_path, skipped)
    elif os.path.isfile(data_path) and data_path.lower().endswith((".csv", ".tsv")):
        videos = list(videos_in_table(data_path))
    else:
        raise InputError(f"{data_path} does not exist, or is neither a folder nor a .csv table. {FORMS}. "
                         "--demo makes its own videos")
    videos = drop_duplicates(keep_one_test_side(videos, skipped), skipped)
    reasons = join_counts(skipped)
    if not videos:
        raise InputError(f"{data_path} holds no video (skipped: {reasons or 'nothing'}). {FORMS}")
    if reasons:
        report("Skipped", reasons)
    return sorted(videos)


def videos_in_folder(data_path: str, skipped: Counter) -> list[Video]:
    found, videos = list(scan_folder(data_path, skipped)), []
    uppermost = {folders[0] for *_, folders in found if folders}
    named = {name_key(name) for name in uppermost}
    words = {word for name in named for word, _ in SIDE_WORD.findall(name)}
    has_sides = named.intersection(TRAIN + TEST) or words.intersection(TRAIN) and words.intersection(TEST)
    parents = {folders[:depth] for *_, folders in found for depth in range(1, len(folders) + 1)}
    for path, stem, folders in found:
        below = folders[1:] if has_sides else folders  # from the class folder on
        given = name_key(folders[0]) if has_sides and folders else ""
        match = VIDEO_NAME.fullmatch(stem)
        if match and (given or not has_sides):
            name, action = stem, match["action"]
        elif len(below) in (1, 2):
            name, action = "/".join((*folders, stem)), below[0]
        else:
            skipped["videos deeper than <Action>/<source>/<video>" if below else
                    "videos or frame folders in no class folder"] += 1
            continue
        if (*folders, os.path.basename(path)) in parents:
            raise InputError(f"{path} holds frames, and a folder in it holds more frames or videos: keep one "
                             "of them, or use a table")
        name = unicodedata.normalize("NFC", name)
        videos.append(Video(name, path, action, find_source(stem, below), given))
    filled = {video.given for video in videos}  # sides with class folders
    if has_sides and (named.difference(TRAIN, TEST) or filled.isdisjoint(TRAIN) or filled.isdisjoint(TEST)):
        in_order = sorted(uppermost, key=lambda name: (not SIDE_WORD.search(name_key(name)), name))
        raise InputError(f"{data_path} has folders named like sides of a split: {abbreviate(in_order, 9)}; "
                         f"skipped: {join_counts(skipped) or 'nothing'}. A split needs folders named train "
                         "and test (or val), class folders in both, and no other folder: use another "
                         "--data_path, or a table with the columns video, action and split")
    filled = {folder for video in videos for folder in (Path(video.path), *Path(video.path).parents)}
    empty = [folder.name for folder in sorted(Path(data_path).glob("*/*" if has_sides else "*"))
             if folder.is_dir() and folder not in filled and not folder.name.startswith(HIDDEN)]
    skipped[f"class folders without a video ({abbreviate(empty, 9)})"] += len(empty)
    return videos


def scan_folder(folder: str, skipped: Counter, above: tuple = ()) -> Iterator[tuple[str, str, tuple]]:
    """Yield (path, name without suffix, names of the folders above it) of each video below a folder: a file
    with a suffix of video, or a folder that holds numbered images but no such file."""
    if above and VIDEO_NAME.fullmatch(above[-1]) and os.path.exists(frame_path(folder, 1)):
        yield folder, above[-1], above[:-1]  # its frames are not listed: UCF101 has 2.5 million
        return
    if len(above) > 4:
        skipped["folders too deep"] += 1
        return
    with user_file(folder), os.scandir(folder) as scan:
        entries = sorted(scan, key=lambda entry: entry.name)
    subfolders, videos, images = [], [], []
    for entry in entries:
        with user_file(entry.path):
            if entry.name.startswith(HIDDEN):
                skipped["hidden files and folders"] += 1
            elif entry.is_dir():
                subfolders.append(entry.name)
            elif entry.is_file() and entry.name.lower().endswith(VIDEO_SUFFIXES):
                videos.append(entry.name)
            elif entry.is_file() and entry.name.lower().endswith(IMAGE_SUFFIXES):
                images.append(entry.name)
            else:
                skipped[f"other files {Path(entry.name).suffix}" if entry.is_file() else "broken links"] += 1
    series = find_series(images) if above and not videos else []
    skipped["images without a number, of another series, or beside videos"] += (
        len(images) - len(series[0] if series else ()))
    if series:
        yield folder, without_suffix(above[-1]), above[:-1]  # frames may lie in a folder 1.avi
    for name in videos:
        yield os.path.join(folder, name), without_suffix(name), above
    for name in subfolders:
        yield from scan_folder(os.path.join(folder, name), skipped, (*above, name))


def find_source(stem: str, below: tuple = ()) -> str:
    """Return the group of ..._gNN_cNN, else the folder between class folder and video, else ""."""
    folder = name_key(below[1]) if len(below) > 1 else ""
    group = GROUP_NAME.fullmatch(stem) or GROUP_NAME.fullmatch(folder)
    if group:
        return f"g{int(group['group'])}"
    return "" if below and folder == name_key(below[0]) else folder  # brush_hair/brush_hair/1.avi has none


def keep_one_test_side(videos: list[Video], skipped: Counter) -> list[Video]:
    """Name each side train or test. Of several test sides, use the first of TEST and skip the others."""
    tests = sorted({video.given for video in videos}.intersection(TEST), key=TEST.index)
    sides = {"": ""} | dict.fromkeys(TRAIN, "train") | dict.fromkeys(tests[:1], "test")
    for video in videos:
        if video.given not in sides:
            skipped[f"videos in {video.given} (the test side is {tests[0]})"] += 1
    return [video._replace(given=sides[video.given]) for video in videos if video.given in sides]


def drop_duplicates(videos: list[Video], skipped: Counter) -> list[Video]:
    """Drop the file of a video that is also there as a folder. Other videos of one name raise InputError."""
    names = {}
    for video in sorted(videos, key=lambda video: os.path.isfile(video.path)):  # folders first
        key = video.name.casefold() if VIDEO_NAME.fullmatch(video.name) else video.name  # v_HandStandPush...
        other = names.setdefault(key, video)
        if other is not video and not (os.path.isdir(other.path) and os.path.isfile(video.path)):
            raise InputError(f"{other.path} and {video.path} have the same name: rename or delete one")
        skipped["files whose frames are in a folder beside"] += other is not video
    return list(names.values())


def videos_in_table(path: str) -> Iterator[Video]:
    table, folder, lines, recordings, missing = read_table(path), os.path.dirname(path), {}, {}, []
    sides = (*TRAIN, *TEST) if any(table["split"]) else ("",)
    has_times = any(table["start"] + table["end"])
    for index, video, action, source, split, *times in table.itertuples():
        line, start, end = f"line {index + 1}", parse_time(times[0], 0.0), parse_time(times[1], math.inf)
        if not os.path.exists(os.path.join(folder, video)):  # written on Windows, or below the home folder ~
            video = os.path.expanduser(video.replace("\\", "/"))
        file = os.path.join(folder, video)
        problems = {
            "the column video is empty": not video,
            "the column action is empty; for a video of none, name an action of its own": not action,
            f"the column split has '{split}', not train or test": split not in sides,
            f"start '{times[0]}' and end '{times[1]}' must be times in seconds, m:s or h:m:s, end after "
            "start": not start < end,
            f"{video} is a folder of frames, which have no seconds": any(times) and os.path.isdir(file)}
        for problem in filter(problems.get, problems):
            raise InputError(f"{path}, {line}: {problem}")
        if not os.path.exists(file):
            missing.append(f"{line}: {video}")
            continue
        if start > 0 and start >= frames.file_seconds(file):  # as its header says, which may be wrong
            try:
                next(decode(file, (start, end)))
            except UnreadableVideo as error:
                raise InputError(f"{path}, {line}: {error}") from error
        name = unicodedata.normalize("NFC", without_suffix(Path(video).as_posix()))
        base = name.rpartition("/")[2]
        name = recordings.setdefault(os.path.realpath(file), base if VIDEO_NAME.fullmatch(base) else name)
        source = name_key(source) or find_source(base) or (name_key(name) if has_times else "")
        if (start, end) != (0, math.inf):
            name += "@" + "-".join(np.format_float_positional(time, trim="-") for time in (start, end))
            name = name.removesuffix("inf")  # an open end
        if lines.setdefault(name, line) != line:
            raise InputError(f"{path}, {line}: {video} is also in {lines[name]} (the suffix does not "
                             "count): a video, or the same part of it, has one row and one action")
        yield Video(name, file, action, source, split, start=start, end=end)
    if missing:
        raise InputError(f"{path}: {len(missing):,} of {len(table):,} files cannot be found from its folder: "
                         f"{abbreviate(missing)}")


def parse_time(text: str, empty: float) -> float:
    """Return the seconds of 12.5, 1:02.5 or 00:01:02.5, `empty` of an empty text, nan of any other."""
    if not re.fullmatch(r"([0-9]+:){0,2}[0-9]*\.?[0-9]+(e-[0-9]+)?", text):
        return math.nan if text else empty
    parts = map(Decimal, reversed(text.split(":")))  # exact, because the name shows it
    return float(sum(60**power * part for power, part in enumerate(parts)))


def read_table(path: str):
    """Return a pandas.DataFrame of str with COLUMNS in this order. Prints which columns are not used."""
    import pandas as pd  # here, because it takes a second

    with user_file(path):
        text = Path(path).read_text("utf-8-sig").replace("\0", "\ufffd")  # no path holds NUL
    separator = max(",;\t", key=text.partition("\n")[0].count)
    try:
        table = pd.read_csv(io.StringIO(text), sep=separator, header=None, dtype=str, keep_default_na=False,
                            skip_blank_lines=False, skipinitialspace=True).fillna("")
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path} is not a table with the separator '{separator}' ({first_line(error)}). "
                         "Put double quotes around a value that holds the separator") from error
    names = [name_key(name) for name in table.iloc[0]]
    used = {column: column if column in names or not other else other for column, other in COLUMNS.items()}
    if any(names.count(name) > 1 or COLUMNS[column] and name not in names for column, name in used.items()):
        raise InputError(f"{path}: line 1 must name the columns video and action, each once; it has "
                         f"{', '.join(names)}")
    unused = [name for name in names if name not in used.values() and not re.match("(unnamed: .*)?$", name)]
    if unused:
        report("Table", f"not used: {abbreviate(unused, 12)}")
    table = pd.DataFrame({column: table[names.index(name)].str.strip() if name in names else ""
                          for column, name in used.items()})[1:]
    table["split"] = table["split"].map(name_key)
    if separator != ",":
        table[["start", "end"]] = table[["start", "end"]].replace(",", ".", regex=True)  # decimal commas
    return table[(table != "").any(axis=1)]  # without blank lines


# ------------------------------------------------------------------------------ 2. Actions

UCF101_LIST = Path(__file__).resolve().parent.parent / "UCF101actions.pkl"


class ListUnpickler(pickle.Unpickler):
    """Refuse objects of any class, because they could run code."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"{module}.{name}")


def load_action_names(path: str) -> list[str]:
    """Read action names from a pickled list of str or a text file, one per line. Else raise InputError."""
    with user_file(f"--action_name_path {path}"):
        data = Path(path).read_bytes()
        if path.endswith(".pkl") or data[:1] == b"\x80":
            try:
                names = ListUnpickler(io.BytesIO(data)).load()
            except Exception:  # damaged data can raise nearly anything
                names = []
        else:
            names = [line.strip() for line in data.decode("utf-8-sig").splitlines() if line.strip()]
            numbers = [name.split(maxsplit=1)[0] for name in names]
            if numbers == [str(n + 1) for n in range(len(names))]:  # UCF101's classInd.txt numbers them
                names = [name.split(maxsplit=1)[-1] for name in names]
    if not names or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"--action_name_path {path} is neither a pickled list of str nor a text file with "
                         "one name per line")
    if len({name_key(name) for name in names}) < len(names):
        raise InputError(f"{path} names an action twice (upper and lower case are the same action)")
    return names


def choose_action_names(path: str, videos: list[Video]) -> list[str]:
    """Return the sorted action names: of a list, or those found ("none", or if none is in UCF101's list)."""
    found = {name_key(video.action): video.action.strip() for video in videos}
    names = list(found.values()) if path == "none" else load_action_names(path)
    if path == str(UCF101_LIST) and found.keys().isdisjoint(map(name_key, names)):
        names = list(found.values())
        report("Actions", "none of them is in UCF101's list, so the actions found are used")
    return sorted(names)  # the order of the classes in scikit-learn's LabelEncoder


def is_ucf101(action_names: list[str]) -> bool:
    names = load_action_names(str(UCF101_LIST)) if UCF101_LIST.exists() else []
    return {name_key(name) for name in names} == {name_key(name) for name in action_names}


def label_videos(videos: list[Video], action_names: list[str], remedy: str = "") -> list[Video]:
    """Add class indices, and write actions as the list does. Unknown actions raise InputError."""
    labels, labelled = {name_key(name): label for label, name in enumerate(action_names)}, []
    unknown = {video.action for video in videos if name_key(video.action) not in labels}
    if unknown:
        raise InputError(f"unknown actions: {abbreviate(sorted(unknown), 10)}. {remedy}")
    ucf101 = is_ucf101(action_names)
    for video in videos:
        label, source = labels[name_key(video.action)], video.source
        if ucf101 and any(map(VIDEO_NAME.fullmatch, re.split("[/@]", video.name))):
            source = f"{action_names[label]} {source}"  # UCF101 numbers the groups of each action from 1
        labelled.append(video._replace(action=action_names[label], label=label, source=source))
    return labelled


# ------------------------------------------------------------------------------ 3. Splits

OFFICIAL_TEST_GROUPS = {"official1": range(1, 8), "official2": range(8, 15), "official3": range(15, 22)}
SPLITS = ("random", "group", *OFFICIAL_TEST_GROUPS, "given", "folders")  # folders: an older word for given


def split_videos(videos: list[Video], split: str, seed: int) -> tuple[list[Video], list[Video]]:
    """Divide labelled videos into (train, test). Raises InputError if no action is in both.

    random: a quarter of the videos; group: whole sources, about a quarter of each action; official1..3: the
    test lists of UCF101, by group; given: as the folders train and test, or the column split, say; else a
    text file of test videos.
    """
    from sklearn.model_selection import train_test_split  # here, because it takes a second

    has_given = any(video.given for video in videos)
    if has_given != (split in ("given", "folders")):
        own = ("their own split; use --split given" if has_given else
               "no split of their own (folders train and test, or a column split); use --split group")
        raise InputError(f"--split {split}: the videos of --data_path have {own}")
    if has_given:
        test = [video for video in videos if video.given == "test"]
    elif split == "group":
        test = hold_out_sources(videos, seed)
    elif split in OFFICIAL_TEST_GROUPS:
        groups = [re.fullmatch(re.escape(video.action) + " g([0-9]+)", video.source) for video in videos]
        if not all(groups):
            raise InputError(f"--split {split} is for UCF101, its actions and its groups: use group")
        numbers = OFFICIAL_TEST_GROUPS[split]
        test = [video for video, group in zip(videos, groups, strict=True) if int(group[1]) in numbers]
    elif split == "random":
        test = train_test_split(videos, test_size=0.25, random_state=seed)[1] if len(videos) > 1 else []
    else:
        test = listed_videos(videos, split)
    held_out = set(test)
    train = [video for video in videos if video not in held_out]
    if {video.label for video in train}.isdisjoint(video.label for video in test):
        remedy = ("name train and test videos of the same actions" if has_given else
                  "use another --split or more videos" if split in SPLITS else "list the test videos only")
        raise InputError(f"--split {split} puts {len(train)} of the {len(videos)} videos in training and "
                         f"{len(test)} in the test, and no action is in both: {remedy}")
    return train, test


def hold_out_sources(videos: list[Video], seed: int) -> list[Video]:
    """Return the test videos: whole sources, about a quarter of each action, if possible of every action."""
    from sklearn.model_selection import StratifiedGroupKFold  # here, because it takes a second

    if not any(video.source for video in videos):
        raise InputError("--split group needs the source of each video: folders <Action>/<source>/<video>, "
                         "names like ..._g01_c01, or a table with a column source. Or use --split random")
    sources = [video.source or video.path for video in videos]
    labels = np.array([video.label for video in videos])
    folds = []  # (actions missing on a side, distance from a quarter, indices of the test videos)
    for parts in (4, 3, 2):
        folding = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
        with warnings.catch_warnings(), contextlib.suppress(ValueError):
            warnings.simplefilter("ignore")  # an action, or all together, have fewer videos than parts
            for train, test in folding.split(labels, labels, sources):
                missing = 2 * len(set(labels)) - len(set(labels[train])) - len(set(labels[test]))
                folds.append((missing, abs(len(test) / len(labels) - 1 / 4), test.tolist()))
        if folds and min(folds)[0] == 0:
            break
    return [videos[index] for index in min(folds)[2]] if folds else []


def listed_videos(videos: list[Video], path: str) -> list[Video]:
    """Return the videos that a text file names, one per line, as UCF101's testlist01.txt does.

    Folders and suffix may be there or not. All lines may have one more column behind a blank, comma or tab.
    """
    if not os.path.isfile(path):
        raise InputError(f"--split {path} is neither a file nor one of {', '.join(SPLITS[:-1])}")
    with user_file(path):
        lines = [line.strip() for line in Path(path).read_text("utf-8-sig").splitlines() if line.strip()]
    by_file = defaultdict(list)  # {last part of a name: (the whole name, video)}
    for video in videos:
        whole = name_key(video.name)
        for name in {whole, recording_of(whole)}:  # it stands for all its parts
            by_file[name.rpartition("/")[2]].append(("/" + name, video))
    for column in ("$", r"[ ,\t][^ ,\t]*$"):  # none, or one more column
        found = {}
        for line in lines:
            name = "/" + without_suffix(name_key(re.sub(column, "", line)).replace("\\", "/"))
            named = by_file.get(name.rpartition("/")[2], ())
            found[line] = [video for other, video in named if name == other] or [
                video for other, video in named if name.endswith(other) or other.endswith(name)]
        if any(found.values()):
            break
    for line, matches in found.items():
        paths = sorted({video.path for video in matches})
        if len(paths) > 1:
            raise InputError(f"{path}: {line} can be {paths[0]} or {paths[1]}: add its folder")
    unknown = [line for line in lines if not found[line]]
    if len(unknown) == len(lines):
        raise InputError(f"{path} names none of the videos: write them as {videos[0].name}, one per line")
    if unknown:
        report("", f"{len(unknown):,} names of the list are not among the videos: {abbreviate(unknown)}")
    return sorted({video for matches in found.values() for video in matches})


# ------------------------------------------------------------------------------ 4. Data of a run


class Data(NamedTuple):
    train: list[Video]
    test: list[Video]
    action_names: list[str]  # by class index
    frame_rate: float | None  # frames per second of the training files, None if unknown
    chance: float  # chance level: accuracy of guessing, or if it is higher, of one answer to all test videos

    @property
    def record(self) -> dict:
        """What a checkpoint keeps of the data."""
        both = [*self.train, *self.test]
        return {"action_names": self.action_names, "frame_rate": self.frame_rate,
                "train_videos": [video.name for video in self.train],
                "test_videos": [video.name for video in self.test],
                "video_actions": {video.name: video.action for video in both},
                "video_paths": {video.name: os.path.realpath(video.path) for video in both}}


def load_videos(args: argparse.Namespace) -> Data:
    """Find, label and split the videos, and print what was found. Raises InputError where that fails."""
    videos = find_videos(args.data_path)
    action_names = choose_action_names(args.action_name_path, videos)
    videos = label_videos(videos, action_names, f"--action_name_path {args.action_name_path} lacks them: use "
                          "--action_name_path none to train on the actions found, or a list of them")
    print_videos(args, videos, action_names)
    train, test = split_videos(videos, args.split, args.seed)
    largest = max(Counter(video.action for video in test).values())
    chance = max(1 / len({video.action for video in videos}), largest / len(test))
    print_split(args.split, train, test, chance)
    print_copies(train, test)
    rate = frames.usual_frame_rate([(video.path, video.action) for video in train])
    return Data(train, test, action_names, rate, chance)


def print_videos(args: argparse.Namespace, videos: list[Video], action_names: list[str]) -> None:
    found, count = sorted({video.action for video in videos}), len(action_names)
    missing = sorted(set(action_names) - set(found))
    actions = f"{len(found)} of the {count} actions listed" if missing else f"{count} actions"
    clips = f", {args.clips} clips per video" if args.clips > 1 else ""
    report("Data", f"{len(videos):,} videos of {actions}, frames {args.begin_frame} to {args.end_frame - 1}"
           f"{clips}, in")
    print(f"        {args.data_path}")
    report("Actions", abbreviate(found, 12) + (f"; no video of {abbreviate(missing)}" if missing else ""))
    if len(found) == 1:
        report("", f"All videos show one action, {found[0]}: so the accuracy of 100 % means nothing. Is "
               "--data_path the folder of the class folders?")
    several = [name for name in found if set(re.split("[;,|+&] *", name)).intersection(found) - {name}]
    if several:
        report("", f"{abbreviate(several)}: taken for an action of its own, because a video has one action")
    if len(found) > 1 and len({re.sub("[0-9]", "", name) for name in found}) == 1:
        report("", "These names differ only in their digits: are they the actions? Folders of people or of "
               "parts of the data set belong below the class folders")


def print_split(split: str, train: list[Video], test: list[Video], chance: float) -> None:
    """Print how many videos each side has, and how far you can trust the test accuracy."""
    report("Split", f"{split}: {len(train):,} videos for training, {len(test):,} for the test")
    actions = {video.action for video in (*train, *test)}
    for side, videos in (("training", train), ("test", test)):
        counts = Counter(dict.fromkeys(sorted(actions), 0))
        counts.update(video.action for video in videos)
        ranked = counts.most_common()
        (most, highest), (fewest, lowest) = ranked[0], ranked[-1]
        report("", f"{side}: {lowest:,} of each action" if lowest == highest else
               f"{side}: {lowest:,} ({fewest}) to {highest:,} ({most}) videos per action")
        missing = [action for action, count in counts.items() if count == 0]
        if missing:
            report("", f"No {side} video: {', '.join(missing)}")
    report("", f"chance level: {chance:.1%}; each test video counts {1 / len(test):.2%}")
    trained, tested = ({video.source for video in side if video.source} for side in (train, test))
    shared = sum(video.source in trained for video in test)
    unknown = sum(not video.source for video in (*train, *test))
    if trained and tested:
        report("", f"sources: {len(trained):,} in training, {len(tested):,} in the test "
               f"({abbreviate(sorted(tested))}), {len(trained & tested):,} in both")
    if shared:
        remedy = "" if test[0].given else ". Use --split group"
        report("", f"{shared:,} of the {len(test):,} test videos ({shared / len(test):.1%}) have a source "
               f"that is also in training: this is not a fair test{remedy}")
    if unknown:
        report("", f"The source of {unknown:,} of {len(train) + len(test):,} videos is unknown: training and "
               "test may share sources. Use folders <Action>/<source>/<video> or a column source")


def print_copies(train: list[Video], test: list[Video]) -> None:
    """Print how many test videos are the same file as a training video, and name files under two actions."""
    videos, firsts, shared, mixed = (*train, *test), {}, [], []
    with user_file("--data_path"):
        sizes = {video.path: os.path.getsize(video.path) for video in videos}
    counts = Counter(sizes.values())
    contents = {path: hash_file(path) if counts[size] > 1 else path for path, size in sizes.items()}
    for index, video in enumerate(videos):
        first = firsts.setdefault((contents[video.path], video.start, video.end), index)
        pair = f"{videos[first].name} and {video.name}"
        if first < len(train) <= index:
            shared.append(pair)
        if videos[first].label != video.label:
            mixed.append(pair)
    if shared:
        report("", f"{len(shared):,} of the {len(test):,} test videos are the same file as a training video "
               f"({abbreviate(shared)}): this is not a fair test. Keep one of each")
    if mixed:
        report("", f"The same file under two actions: {abbreviate(mixed)}. Each video has one action")


# ------------------------------------------------------------------------------ 5. Demo data

DEMO_ACTIONS = ["MoveLeft", "MoveRight", "Stay", "Sway"]
DEMO_GROUPS, DEMO_CLIPS = 10, 24  # clips of each action in each group
DEMO_FRAMES, DEMO_SIZE = 10, 40  # frames in a clip, and their height and width in pixels


def make_demo_data(data_path: str) -> None:
    """Make a small data set in the form of UCF101's frame folders, unless it is there; nothing is downloaded.

    A disc cut from one of scikit-learn's two photographs moves over the other. It may be anywhere at any
    moment, so no single frame gives the action away. A group takes its pictures from about one place.
    """
    if RANK == 0 and not os.path.exists(data_path):
        print(f"Demo    making its videos in\n        {data_path}")
        temporary = Path(f"{data_path}.tmp")  # renamed when complete
        shutil.rmtree(temporary, ignore_errors=True)
        with user_file(data_path):
            temporary.mkdir(parents=True)
            write_demo_videos(temporary)
            replace(temporary, data_path)
    if TORCHRUN:
        dist.barrier()


def write_demo_videos(data_path: Path) -> None:
    from sklearn.datasets import load_sample_images  # here, as it takes a second

    rng = np.random.default_rng(0)
    photos = load_sample_images().images  # two uint8 (427, 640, 3): a temple, a flower
    for group in range(1, DEMO_GROUPS + 1):
        place = rng.uniform(size=4)
        for action, clip in product(DEMO_ACTIONS, range(1, DEMO_CLIPS + 1)):
            folder = data_path / f"v_{action}_g{group:02d}_c{clip:02d}"
            folder.mkdir()
            background = cut_out(photos[group % 2], 4, place[:2], rng) // 3  # dim
            disc = cut_out(photos[1 - group % 2], 3, place[2:], rng)
            for number, frame in enumerate(demo_clip(action, background, disc, rng), start=1):
                Image.fromarray(frame).save(frame_path(str(folder), number), quality=95)


def cut_out(photo: np.ndarray, shrink: int, place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A square of a photograph near `place` (0..1, down and across), shrunk to the demo's frame size."""
    side = DEMO_SIZE * shrink
    room = np.array(photo.shape[:2]) - side
    y, x = (np.clip(place + rng.uniform(-0.1, 0.1, 2), 0, 1) * room).astype(int)
    return np.asarray(Image.fromarray(photo[y:y + side, x:x + side]).resize((DEMO_SIZE, DEMO_SIZE)))


def demo_clip(action: str, background: np.ndarray, disc: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Frames uint8 (T, H, W, 3) of a disc over a background, both (H, W, 3)."""
    t, half = np.arange(DEMO_FRAMES), DEMO_SIZE / 2
    start, radius = rng.uniform(0, DEMO_SIZE), rng.uniform(7, 11)  # pixels
    speed = rng.uniform(2, 3.2)  # pixels per frame
    sway = 8 * np.sin(rng.uniform(0, 2 * np.pi) + 2 * np.pi * t / rng.uniform(4, 6))
    x = start + {"MoveLeft": -speed * t, "MoveRight": speed * t, "Stay": 0 * t, "Sway": sway}[action]
    grid_y, grid_x = np.mgrid[:DEMO_SIZE, :DEMO_SIZE]
    v = np.broadcast_to((grid_y - half) / radius, (DEMO_FRAMES, DEMO_SIZE, DEMO_SIZE))  # -1..1 on the disc
    u = ((grid_x - x[:, None, None] + half) % DEMO_SIZE - half) / radius
    row, column = ((np.clip(a, -1, 1) * (half - 1) + half).astype(int) for a in (v, u))
    return np.where((u**2 + v**2 < 1)[..., None], disc[row, column], background)
