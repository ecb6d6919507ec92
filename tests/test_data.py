"""Videos as they lie, action lists, splits, and the pictures of a clip."""
import argparse
import contextlib
import errno
import io
import itertools
import os
import pickle
import random
import re
import shutil
import struct
import tempfile
import unicodedata
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.model_selection import train_test_split
from torchvision.transforms.functional import resize

import check_model_prediction
import functions
from conftest import ACTIONS, REPO, make_images, write_frames, write_video
from functions import (
    Dataset_CRNN,
    InputError,
    UnreadableVideo,
    Video,
    find_videos,
    label_videos,
    split_videos,
)

FRAMES = list(range(1, 11))
UCF101 = functions.load_action_names(str(REPO / "UCF101actions.pkl"))


def tree(root: Path, *paths: str) -> Path:
    """Make empty files, and folders where a path ends in a slash: to find videos, names are enough."""
    for path in paths:
        folder = root / path if path.endswith("/") else (root / path).parent
        folder.mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            (root / path).write_bytes(b"")
    return root


def load(data_path: Path, **given) -> functions.Data:
    """load_videos as a script calls it, with the actions found unless a list is given."""
    args = dict(data_path=str(data_path), action_name_path="none", split="random", seed=42, begin_frame=1,
                end_frame=3, skip_frame=1, clips=1)
    return functions.load_videos(argparse.Namespace(**(args | given)))


def printed(capsys) -> str:
    """What was printed, its line breaks as blanks."""
    return " ".join(capsys.readouterr().out.split())


def read(path: Path, numbers: list[int], height: int, width: int, channels: int = 3):
    """One clip, the numbers of its unreadable frames, and the number of its last frame."""
    return next(functions.read_clips(str(path), [numbers], height, width, channels))


def link(path: Path, target: Path | str) -> None:
    try:
        path.symlink_to(target)
    except OSError:  # Windows, without the right to
        pytest.skip("no symbolic links here")


# ------------------------------------------------------------------------------ videos as they lie

LAYOUTS = {  # files below data_path: {name: (action, source)}
    "class folders": (
        ["Bend/anna 1.mov", "Bend/Ben.final.MP4", "Wave/film.webm"],
        {"Bend/anna 1": ("Bend", ""), "Bend/Ben.final": ("Bend", ""), "Wave/film": ("Wave", "")}),
    "source folders": (
        ["Bend/anna/1.mov", "Bend/Ben/1.mov", "Wave/anna/1.mov"],
        {"Bend/anna/1": ("Bend", "anna"), "Bend/Ben/1": ("Bend", "ben"), "Wave/anna/1": ("Wave", "anna")}),
    "equal file names in two class folders": (
        ["Bend/001.mp4", "Wave/001.mp4"],
        {"Bend/001": ("Bend", ""), "Wave/001": ("Wave", "")}),
    "groups in other names": (
        ["Bend/clip_g02_c01.avi", "Wave/clip_g11_c01.avi"],
        {"Bend/clip_g02_c01": ("Bend", "g2"), "Wave/clip_g11_c01": ("Wave", "g11")}),
    "UCF101's names in no folder": (
        ["v_Bend_g01_c01.avi", "v_Wave_g01_c02.avi"],
        {"v_Bend_g01_c01": ("Bend", "g1"), "v_Wave_g01_c02": ("Wave", "g1")}),
    "UCF101's names in folders, which do not matter": (
        ["UCF/v_Bend_g01_c01.avi", "UCF/part 2/v_Wave_g01_c02.avi"],
        {"v_Bend_g01_c01": ("Bend", "g1"), "v_Wave_g01_c02": ("Wave", "g1")}),
    "frame folders of any name": (
        ["Bend/anna/frame000001.jpg", "Bend/Ben 2/img_7.PNG", "Wave/anna/1/a.webp", "v_Wave_g01_c01/1.bmp"],
        {"Bend/anna": ("Bend", ""), "Bend/Ben 2": ("Bend", ""), "Wave/anna/1": ("Wave", "anna"),
         "v_Wave_g01_c01": ("Wave", "g1")}),
    "hidden entries": (
        ["Bend/1.mov", ".DS_Store", "Bend/._1.mov", ".trash/2.mov", "Bend/.cache/3.mov"],
        {"Bend/1": ("Bend", "")}),
    "a video as folder and as file": (
        ["Bend/1.mov", "Bend/1/frame000001.jpg", "v_Bend_g01_c01.avi", "v_Bend_g01_c01/frame000001.jpg"],
        {"Bend/1": ("Bend", ""), "v_Bend_g01_c01": ("Bend", "g1")}),
    "train and val folders": (
        ["train/Bend/1.mov", "Val/Bend/1.mov", "Val/Bend/anna/2.mov", "train/v_Wave_g01_c01.avi"],
        {"train/Bend/1": ("Bend", ""), "Val/Bend/1": ("Bend", ""), "Val/Bend/anna/2": ("Bend", "anna"),
         "v_Wave_g01_c01": ("Wave", "g1")}),
}


@pytest.mark.parametrize("files, expected", LAYOUTS.values(), ids=LAYOUTS)
def test_videos_are_found_where_they_lie(tmp_path, capsys, files, expected):
    videos = find_videos(str(tree(tmp_path, *files)))
    assert {video.name: (video.action, video.source) for video in videos} == expected
    assert printed(capsys) == ""


def test_every_suffix_of_video_counts_in_any_case(tmp_path):
    suffixes = "avi mp4 m4v mov mkv webm mpg mpeg wmv flv 3gp ts gif".split()
    tree(tmp_path, *(f"Bend/a {suffix}.{suffix}" for suffix in suffixes),
         *(f"Bend/b {suffix}.{suffix.upper()}" for suffix in suffixes))
    assert len(find_videos(str(tmp_path))) == 2 * len(suffixes)


PASSED_OVER = {
    "files of other kinds: 2": ["notes.md", "Bend/list.txt"],
    "videos or folders of pictures in no class folder: 1": ["film.mp4"],
    "videos deeper than <Action>/<source>/<video>: 1": ["Bend/anna/monday/1.mov"],
    "empty folders: 1": ["Wave/"],
    "pictures beside videos or folders: 3": ["cover.jpg", "Bend/1.png", "Bend/2.png"],
    "folders too deep: 1": ["a/b/c/d/e/1.mov"],
}


def test_what_is_passed_over_is_counted_by_reason_in_one_line(tmp_path, capsys):
    tree(tmp_path, "Bend/1.mov", *(path for paths in PASSED_OVER.values() for path in paths))
    assert [video.name for video in find_videos(str(tmp_path))] == ["Bend/1"]
    out = printed(capsys)
    assert out.count("Skipped") == 1
    for reason in PASSED_OVER:
        assert reason in out


@pytest.mark.parametrize("files", [["film.mp4", "b.jpg"], ["Bend/notes.md"], ["Bend/"], []], ids=str)
def test_a_folder_without_videos_says_what_was_looked_for_and_found(tmp_path, files):
    with pytest.raises(InputError, match="holds no video.*<Action>/<video>") as error:
        find_videos(str(tree(tmp_path, *files)))
    assert not files or "passed over: " in str(error.value)
    with pytest.raises(InputError, match="is not a folder.*--data_path"):
        find_videos(str(tmp_path / "nowhere"))


TWICE = {
    "two suffixes": ["Bend/1.mov", "Bend/1.mp4"],
    "UCF101's name in two folders": ["a/v_Bend_g01_c01.avi", "b/v_Bend_g01_c01.avi"],
    "... spelt otherwise": ["v_HandStandPushups_g01_c01.avi", "HSP/v_HandstandPushups_g01_c01.avi"],
    "in train and in test": ["train/v_Bend_g01_c01.avi", "test/v_Bend_g01_c01.avi"],
}


@pytest.mark.parametrize("files", TWICE.values(), ids=TWICE)
def test_two_videos_of_one_name_are_an_error_that_names_both(tmp_path, files):
    with pytest.raises(InputError) as error:
        find_videos(str(tree(tmp_path, *files)))
    assert all(str(tmp_path / path) in str(error.value) for path in files)


def test_a_class_folder_is_looked_through_even_if_it_holds_a_frame(tmp_path, capsys):
    tree(tmp_path, "Bend/frame000001.jpg", "Bend/1.mov", "Bend/anna/2.mov", "Wave/3.mov")
    assert [video.name for video in find_videos(str(tmp_path))] == ["Bend/1", "Bend/anna/2", "Wave/3"]
    assert "pictures beside videos or folders: 1" in printed(capsys)


def test_links_are_followed_and_broken_ones_counted(tmp_path, capsys):
    tree(tmp_path / "elsewhere", "1.mov", "2.mov")
    data = tree(tmp_path / "data", "Wave/3.mov")
    link(data / "Bend", tmp_path / "elsewhere")
    link(data / "Wave" / "4.mov", "gone.mov")
    assert [video.name for video in find_videos(str(data))] == ["Bend/1", "Bend/2", "Wave/3"]
    assert "broken links: 1" in printed(capsys)


@pytest.mark.parametrize("place", ["itself", "Wave/itself"])
def test_a_link_to_itself_is_a_broken_one(tmp_path, capsys, place):
    tree(tmp_path, "Wave/3.mov")
    link(tmp_path / place, "itself")
    assert [video.name for video in find_videos(str(tmp_path))] == ["Wave/3"]
    assert "broken links: 1" in printed(capsys)


def test_a_link_to_the_folder_above_ends_somewhere_and_is_said(tmp_path, capsys):
    tree(tmp_path, "Wave/3.mov")
    link(tmp_path / "Wave" / "all", tmp_path)
    assert [video.name for video in find_videos(str(tmp_path))] == ["Wave/3"]
    assert "deeper than" in printed(capsys)


def test_a_link_to_another_video_is_an_error_that_names_both(tmp_path):
    tree(tmp_path, "Wave/3.mov")
    link(tmp_path / "Wave" / "4.mov", "3.mov")
    with pytest.raises(InputError, match=r"3\.mov and .*4\.mov .*one file"):
        find_videos(str(tmp_path))


def test_case_blanks_and_the_unicode_form_of_an_action_do_not_matter(tmp_path):
    nfc, nfd = unicodedata.normalize("NFC", "Überschlag"), unicodedata.normalize("NFD", "Überschlag")
    tree(tmp_path, f"{nfd}/1.mov", f" {nfc.upper()}/2.mov", "wave/3.mov", " Wave/4.mov")
    assert len(find_videos(str(tmp_path))) == 4
    (tmp_path / "list.txt").write_text(f"{nfc}\nWAVE\n", "utf-8")
    videos = label_videos(find_videos(str(tmp_path)), functions.load_action_names(str(tmp_path / "list.txt")))
    assert Counter((video.action, video.label) for video in videos) == {(nfc, 0): 2, ("WAVE", 1): 2}
    assert len(load(tmp_path).action_names) == 2
    tree(tmp_path / "v", "v_handstandPUSHUPS_g01_c01.avi")
    assert label_videos(find_videos(str(tmp_path / "v")), ACTIONS)[0].action == "HandstandPushups"


def test_two_unicode_forms_of_one_name_are_one_name(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "Größe é") for form in ("NFC", "NFD"))
    tree(tmp_path, f"Bend/{nfd}.mov")
    assert find_videos(str(tmp_path))[0].name == f"Bend/{nfc}"
    tree(tmp_path, f"Bend/{nfc}.mov")
    if len(os.listdir(tmp_path / "Bend")) == 2:  # not where the file system takes them for one
        with pytest.raises(InputError, match="the same name"):
            find_videos(str(tmp_path))


# ------------------------------------------------------------------------------ action lists


def test_the_101_actions():
    assert len(UCF101) == len(set(UCF101)) == 101
    assert {"ApplyEyeMakeup", "HandstandPushups", "YoYo"} <= set(UCF101)


LISTS = {
    "a pickled list": pickle.dumps(ACTIONS),
    "a text file": b"Biking\nHandstandPushups\nPunch",
    "... as Windows writes it": b"\xef\xbb\xbfBiking\r\n\r\n HandstandPushups \r\nPunch\r\n",
    "UCF101's classInd.txt": b"1 Biking\n2 HandstandPushups\n3 Punch\n",
}


@pytest.mark.parametrize("content", LISTS.values(), ids=LISTS)
def test_an_action_list_is_pickled_or_text(tmp_path, content):
    (tmp_path / "actions").write_bytes(content)
    assert functions.load_action_names(str(tmp_path / "actions")) == ACTIONS


def test_without_a_fitting_list_the_actions_found_are_taken_and_said(tmp_path, capsys):
    tree(tmp_path, *(f"{action}/{n}.mov" for action in ("Wave", "Bend") for n in range(4)))
    assert load(tmp_path, action_name_path=str(functions.UCF101_LIST)).action_names == ["Bend", "Wave"]
    out = printed(capsys)
    assert "none is one of UCF101's" in out and "Bend, Wave" in out and "8 videos of 2 actions" in out
    assert load(tmp_path, action_name_path="none").action_names == ["Bend", "Wave"]
    assert "UCF101's" not in printed(capsys)


def test_a_list_that_only_some_actions_fit_is_refused_with_both_ways(tmp_path):
    tree(tmp_path / "data", "Wave/1.mov", "Bend/2.mov", "Punch/3.mov")
    (tmp_path / "own.txt").write_text("Wave\nJump\n")
    for path, unknown in ((functions.UCF101_LIST, "Bend, Wave"), (tmp_path / "own.txt", "Bend, Punch")):
        with pytest.raises(InputError, match=f"actions: {unknown}. --action_name_path .* none .* a list"):
            load(tmp_path / "data", action_name_path=str(path))
    tree(tmp_path / "other", "Wave/1.mov")
    (tmp_path / "own.txt").write_text("Jump\n")  # a list that was given is not put aside
    with pytest.raises(InputError, match="actions: Wave. .* lacks"):
        load(tmp_path / "other", action_name_path=str(tmp_path / "own.txt"))


def test_actions_listed_but_not_there_keep_their_class(tmp_path, capsys):
    tree(tmp_path, *(f"Punch/{n}.mov" for n in range(4)), *(f"YoYo/{n}.mov" for n in range(4)))
    data = load(tmp_path, action_name_path=str(functions.UCF101_LIST))
    assert len(data.action_names) == 101
    assert {video.label for video in data.train} == {UCF101.index("Punch"), UCF101.index("YoYo")}
    assert "2 of the 101 actions listed" in printed(capsys)


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
            functions.load_action_names(str(path))
    assert not trace.exists()


BAD_LISTS = {
    "empty": (b"", "not a pickled list of str; a text file with one name a line will do"),
    "blank lines": (b"\n \n\n", "not a pickled list of str; a text file with one name a line will do"),
    "a name twice": (b"Punch\npunch \n", "names an action twice"),
    "not UTF-8": (b"caf\xe9\n", "no UTF-8 text"),
}


@pytest.mark.parametrize("content, message", BAD_LISTS.values(), ids=BAD_LISTS)
def test_a_bad_action_list_is_refused(tmp_path, content, message):
    (tmp_path / "actions.txt").write_bytes(content)
    with pytest.raises(InputError, match=f"actions.txt.*{message}"):
        functions.load_action_names(str(tmp_path / "actions.txt"))
    with pytest.raises(InputError, match="none.pkl: No such file"):
        functions.load_action_names(str(tmp_path / "none.pkl"))


# ------------------------------------------------------------------------------ splits


def labelled(counts: dict, action_names: list[str] | None = None) -> list[Video]:
    """Labelled videos as UCF101 names them, by {(action, group): how many}."""
    videos = [Video(f"v_{action}_g{group:02d}_c{clip:02d}", f"{action} {group} {clip}", action, f"g{group}")
              for (action, group), count in counts.items() for clip in range(1, count + 1)]
    return functions.label_videos(sorted(videos), action_names or sorted({action for action, _ in counts}))


def ucf101() -> list[Video]:
    """13,320 videos of 101 actions x 25 groups, as in UCF101."""
    counts = Counter(random.Random(0).sample([(a, g) for a in UCF101 for g in range(1, 26)] * 6, 13_320))
    return labelled(counts, sorted(UCF101))


def actions_of(videos: list[Video]) -> set:
    return {video.action for video in videos}


def test_random_split_is_the_tutorials_and_follows_the_seed():
    videos = ucf101()
    train, test = split_videos(videos, "random", 42)
    assert (len(train), len(test)) == (9_990, 3_330) and not set(train) & set(test)
    names = [video.name for video in videos]
    assert {video.name for video in test} == set(train_test_split(names, test_size=0.25, random_state=42)[1])
    assert set(split_videos(videos, "random", 42)[1]) == set(test)
    assert set(split_videos(videos, "random", 43)[1]) != set(test)


def test_group_split_holds_out_whole_sources_of_every_action():
    videos = ucf101()
    train, test = split_videos(videos, "group", 42)
    assert len(train) + len(test) == len(videos)
    assert not {video.source for video in train} & {video.source for video in test}
    whole, held_out = (Counter(video.action for video in part) for part in (videos, test))
    assert all(0.15 < held_out[action] / whole[action] < 0.35 for action in UCF101)
    assert set(split_videos(videos, "group", 43)[1]) != set(test)


FEW_SOURCES = {
    "groups numbered on: 1-2, 3-4, 5-6": {(a, 2 * n + g): 3 for n, a in enumerate("ABC") for g in (1, 2)},
    "four groups an action": {(a, g): 2 for a in "ABC" for g in range(1, 5)},
    "four groups an action, numbered on": {(a, 4 * n + g): 2 for n, a in enumerate("ABC") for g in range(4)},
    "two groups": {(a, g): 5 for a in "ABC" for g in (1, 2)},
    "groups of other sizes": {(a, g): 1 + 3 * (g == 1) for a in "AB" for g in range(1, 6)},
    "two groups beside ten": {("A", 1): 2, ("A", 2): 2} | {(a, g): 4 for a in "BC" for g in range(3, 13)},
}


@pytest.mark.parametrize("counts", FEW_SOURCES.values(), ids=FEW_SOURCES)
def test_group_split_leaves_no_action_without_training_or_test_video(counts):
    videos = labelled(counts)
    for seed in range(61):
        train, test = split_videos(videos, "group", seed)
        assert actions_of(train) == actions_of(test) == actions_of(videos), seed
        assert not {video.source for video in train} & {video.source for video in test}, seed


def test_a_source_is_a_group_number_whatever_the_action_but_per_action_in_ucf101s_list():
    counts = {("Biking", 1): 1, ("Punch", 1): 1}
    assert len({video.source for video in labelled(counts)}) == 1
    assert len({video.source for video in labelled(counts, sorted(UCF101))}) == 2
    folders = [Video("Biking/anna/1", "1", "Biking", "anna"), Video("Punch/anna/1", "2", "Punch", "anna")]
    assert len({video.source for video in functions.label_videos(folders, sorted(UCF101))}) == 1


def test_group_split_needs_a_known_source(tmp_path):
    tree(tmp_path, *(f"{action}/{n}.mov" for action in ("Bend", "Wave") for n in range(4)))
    with pytest.raises(InputError, match="<Action>/<source>/<video>.*--split random"):
        load(tmp_path, split="group")


@pytest.mark.parametrize("split, groups", [("official1", range(1, 8)), ("official2", range(8, 15)),
                                           ("official3", range(15, 22))])
def test_official_splits(split, groups):
    def groups_of(videos):
        return {int(re.search("_g([0-9]+)_", video.name)[1]) for video in videos}

    train, test = split_videos(ucf101(), split, 42)
    assert groups_of(test) == set(groups) and groups_of(train) == set(range(1, 26)) - set(groups)
    with pytest.raises(InputError, match=f"--split {split} is of UCF101"):
        split_videos(labelled({(a, g): 1 for a in "AB" for g in range(1, 26)}), split, 42)


@pytest.mark.parametrize("train, test", [("train", "test"), ("train", "val"), ("Train", "valid"),
                                         ("TRAIN", "Validation")])
def test_train_and_test_folders_are_the_split_and_no_other_is_taken(tmp_path, capsys, train, test):
    tree(tmp_path, *(f"{train}/{action}/{n}.mov" for action in ("Bend", "Wave") for n in (1, 2)),
         f"{test}/Bend/1.mov", f"{test}/Wave/anna/1.mov", "extra/Bend/7.mov", "8.mov")
    data = load(tmp_path, split="folders")
    assert {video.name for video in data.test} == {f"{test}/Bend/1", f"{test}/Wave/anna/1"}
    assert len(data.train) == 4 and actions_of(data.train) == {"Bend", "Wave"}
    assert f"videos outside of {train.lower()} and {test.lower()}: 2" in printed(capsys)
    (tmp_path / "list.txt").write_text("x")
    for split in ("random", "group", "official1", str(tmp_path / "list.txt")):
        with pytest.raises(InputError, match="has folders .* take --split folders"):
            load(tmp_path, split=split)


def test_a_test_folder_without_actions_is_none(tmp_path, capsys):
    tree(tmp_path, "train/Bend/1.mov", "val/Bend/1.mov", "test/1.mov", "test/2.mov")  # as of Kinetics
    data = load(tmp_path, split="folders")
    assert [video.name for video in data.test] == ["val/Bend/1"]
    assert "videos outside of train and val: 2" in printed(capsys)
    shutil.rmtree(tmp_path / "val")
    tree(tmp_path, "more/Bend/1.mov")
    with pytest.raises(InputError, match="with class folders in both"):
        load(tmp_path)


def test_the_split_by_folders_needs_folders(tmp_path):
    tree(tmp_path, "Bend/1.mov", "Wave/2.mov")
    with pytest.raises(InputError, match="no folders train and test or val: take group"):
        load(tmp_path, split="folders")


OWN = ["Bend/anna 1.mov", "Bend/2.mov", "Bend/a, b.mov", "Bend/3.mov",
       "Wave/2.mov", "Wave/Ünal.mov", "Wave/5.mov", "v_Wave_g01_c02.avi"]
LINES = {
    "v_Wave_g01_c02": "v_Wave_g01_c02",
    "v_Wave_g01_c02.avi": "v_Wave_g01_c02",
    "Wave/v_Wave_g01_c02.avi": "v_Wave_g01_c02",
    "V_WAVE_g01_c02.AVI 7": "v_Wave_g01_c02",
    "Bend/3": "Bend/3",
    "Bend/3.mov": "Bend/3",
    "Bend\\3.mov": "Bend/3",
    "./Bend/3.mov": "Bend/3",
    "3": "Bend/3",
    "3.mov": "Bend/3",
    "  bend/3.MOV  ": "Bend/3",
    "Bend/anna 1.mov": "Bend/anna 1",
    "anna 1": "Bend/anna 1",
    "Bend/anna 1.mov 12": "Bend/anna 1",
    "Bend/anna 1.mov,12,train": "Bend/anna 1",
    '"Bend/anna 1.mov"': "Bend/anna 1",
    "Bend/a, b.mov": "Bend/a, b",
    "Bend/a, b.mov;1": "Bend/a, b",
    "Wave/2.mov\t2": "Wave/2",
    unicodedata.normalize("NFD", "Wave/Ünal.mov"): "Wave/Ünal",
}


@pytest.mark.parametrize("line, name", LINES.items(), ids=LINES)
def test_a_list_names_the_test_videos_with_or_without_folder_and_suffix(tmp_path, capsys, line, name):
    tree(tmp_path / "data", *OWN)
    (tmp_path / "testlist01.txt").write_text(f"{line}\n\n", "utf-8")
    data = load(tmp_path / "data", split=str(tmp_path / "testlist01.txt"))
    assert [video.name for video in data.test] == [name] and len(data.train) == len(OWN) - 1
    assert "not there" not in printed(capsys)


@pytest.mark.parametrize("line", [
    "Bend/anna 2.mp4", "Bend/anna 2", "Bend/anna.2", "Bend/anna, carla.mov", "Bend/anna.mov clip.avi",
    "Bend/ann", "v_Wave_g01_c01 copy.avi", "Wave/v_Wave_g01_c01.flip.avi"])
def test_a_name_that_is_not_there_takes_no_other_video(tmp_path, capsys, line):
    tree(tmp_path / "data", "Bend/anna.mov", "Bend/ben.mov", "Wave/ben 2.mov", "Wave/carla.mov",
         "Wave/v_Wave_g01_c01.avi")
    (tmp_path / "list").write_text(f"{line}\nWave/ben 2\n")
    data = load(tmp_path / "data", split=str(tmp_path / "list"))
    assert [video.name for video in data.test] == ["Wave/ben 2"]
    assert "Names of the list that are not there: 1" in printed(capsys)


@pytest.mark.parametrize("line", ["/media/my videos/Bend/2.mov", "my_videos/Bend/2.mov 0", "data/Bend/2"])
def test_a_list_may_name_videos_by_where_they_lie_on_a_disk(tmp_path, capsys, line):
    tree(tmp_path / "data", "Bend/2.mov", "Wave/2.mov", "Bend/3.mov")
    (tmp_path / "list").write_text(f"{line}\n/media/Run/3.mov\n")
    data = load(tmp_path / "data", split=str(tmp_path / "list"))
    assert [video.name for video in data.test] == ["Bend/2"]
    assert "Names of the list that are not there: 1" in printed(capsys)


@pytest.mark.parametrize("name", ["Wave/v_Wave_g01_c01.flip", "Wave/v_Wave_g01_c01 copy", "Bend/my.mov clip"])
def test_a_name_that_holds_another_one_names_itself(tmp_path, name):
    tree(tmp_path / "data", f"{name}.avi", "Wave/v_Wave_g01_c01.avi", "Bend/my.mov", "Bend/ben.mov")
    (tmp_path / "list").write_text(f"{name}.avi\n")
    assert [video.name for video in load(tmp_path / "data", split=str(tmp_path / "list")).test] == [name]


@pytest.mark.parametrize("lines, names", [
    ("Bend/anna 163 0\nWave/carla 57 1\n", ["Bend/anna", "Wave/carla"]),  # frames, label
    ("Bend/anna 0.5 -1\nWave/carla 2 -1\n", ["Bend/anna", "Wave/carla"]),
    ('"Bend/anna","Bend"\n"Wave/carla","Wave"\n', ["Bend/anna", "Wave/carla"]),
    ("Bend/anna 1,Bend\nWave/carla,Wave\n", ["Wave/carla"]),  # "anna 1" is not there, and is not anna
])
def test_columns_behind_names_without_suffix_are_ignored(tmp_path, lines, names):
    tree(tmp_path / "data", "Bend/anna.mov", "Bend/ben.mov", "Wave/anna 2.mov", "Wave/carla.mov")
    (tmp_path / "list").write_text(lines)
    data = load(tmp_path / "data", split=str(tmp_path / "list"))
    assert [video.name for video in data.test] == names


def test_names_of_a_list_that_are_not_there_are_counted_and_named(tmp_path, capsys):
    tree(tmp_path / "data", *OWN)
    (tmp_path / "list").write_text("Bend/3\nWave/3\nv_Wave_g09_c01.avi 2\nBend/3.mov\nanna\n")
    data = load(tmp_path / "data", split=str(tmp_path / "list"))
    assert [video.name for video in data.test] == ["Bend/3"] and len(data.train) == len(OWN) - 1
    out = printed(capsys)
    assert "Names of the list that are not there: 3" in out and "Wave/3, v_Wave_g09_c01.avi 2, anna" in out


REFUSED_LISTS = {
    "ambiguous": (b"2.mov\n", r"2\.mov may be .*Bend.2\.mov or .*Wave.2\.mov"),
    "not UTF-8": (b"caf\xe9.mov\n", "no UTF-8 text"),
    "nothing there": (b"Bend/99\n", "names none of the videos: write them as Bend/2"),
    "all": ("\n".join(OWN).encode(), "puts 0 of the 8 videos in training and 8 .*: list test videos only"),
    "empty": (b"", "names none of the videos"),
}


@pytest.mark.parametrize("content, message", REFUSED_LISTS.values(), ids=REFUSED_LISTS)
def test_a_list_that_cannot_be_followed_is_refused(tmp_path, content, message):
    tree(tmp_path / "data", *OWN)
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "data", split=str(tmp_path / "list.txt"))
    with pytest.raises(InputError, match="neither a file nor one of random, group"):
        load(tmp_path / "data", split=str(tmp_path / "nowhere.txt"))


@pytest.mark.parametrize("split, counts", {"group": {("A", 1): 4}, "random": {("A", 1): 1},
                                           "official1": {("Punch", 8): 4}}.items())
def test_a_split_with_an_empty_side_is_refused(split, counts):
    with pytest.raises(InputError, match="take another --split or more videos"):
        split_videos(labelled(counts, sorted(UCF101) if split == "official1" else None), split, 0)


def test_the_start_says_how_many_videos_each_side_has(tmp_path, capsys):
    tree(tmp_path, *(f"train/Bend/{n}.mov" for n in range(5)), *(f"train/Wave/{n}.mov" for n in range(2)),
         "train/Jump/1.mov", "test/Bend/1.mov", "test/Wave/2.mov", "test/Run/3.mov")
    load(tmp_path, split="folders", end_frame=29)
    out = printed(capsys)
    assert "11 videos of 4 actions, frames 1 to 28 (28 of them)" in out
    assert "8 videos to train on, 3 to test on" in out
    assert "training: 0 (Run) to 5 (Bend) videos an action" in out and "test: 0 (Jump) to 1 (" in out
    assert "No training video: Run" in out and "No test video: Jump" in out
    assert "The source of 11 of 11 videos is not known" in out


def test_the_start_says_how_many_test_videos_have_a_sibling_in_training(tmp_path, capsys):
    everyone = [f"{action}/person {n}/1.mov" for action in ("Bend", "Jump", "Run", "Wave") for n in range(9)]
    load(tree(tmp_path / "nine", *everyone))
    out = printed(capsys)
    assert "9 of the 9 test videos (100.0%) have a sibling" in out and "--split group is" in out
    load(tmp_path / "nine", split="group")
    out = printed(capsys)
    assert "sibling" not in out and "not known" not in out and "No test video" not in out

    tree(tmp_path / "mixed", "train/Bend/anna/1.mov", "train/Wave/2.mov", "test/Bend/ben/3.mov",
         "test/Wave/Anna/4.mov", "test/Wave/5.mov", "test/Bend/x_g01_c01.mov")
    load(tmp_path / "mixed", split="folders")
    out = printed(capsys)
    assert "1 of the 4 test videos (25.0%) have a sibling" in out and "--split group" not in out
    assert "The source of 2 of 6 videos is not known" in out


def test_the_start_names_the_actions_and_those_without_a_video(tmp_path, capsys):
    tree(tmp_path, *(f"{name}/{n}.mov" for name in ("Bend", "Wave") for n in range(3)), "Bend/frames/1.png")
    (tmp_path / "list.txt").write_text("Bend\nRun\nWave\n")
    load(tmp_path, action_name_path=str(tmp_path / "list.txt"))
    out = printed(capsys)
    assert "7 videos of 2 of the 3 actions listed" in out and "Actions Bend, Wave; no video of Run" in out
    assert "1 of the videos are folders of frames" in out


def test_what_systems_and_training_put_beside_videos_is_no_video(tmp_path):
    tree(tmp_path, "Bend/1.mov", "Bend/@eaDir/1.mov/thumb.jpg", "__MACOSX/Bend/1.mov", ".cache/Bend/2.mov",
         "models/first/fig_UCF101_CRNN.png")
    assert [video.name for video in find_videos(str(tmp_path))] == ["Bend/1"]


def test_a_frame_folder_is_one_whatever_else_lies_in_it_but_not_with_more_pictures(tmp_path):
    tree(tmp_path, "Kick/001/1.jpg", "Kick/001/2.jpg", "Kick/001/gt/1.txt", "Kick/v_Kick_g01_c01.avi/1.jpg")
    assert [video.name for video in find_videos(str(tmp_path))] == ["Kick/001", "v_Kick_g01_c01"]
    tree(tmp_path, "Kick/001/flow/flow_1.jpg")
    with pytest.raises(InputError, match="001 holds pictures and, below, more .*keep one kind"):
        find_videos(str(tmp_path))


def test_pictures_of_a_class_are_passed_over(tmp_path):
    tree(tmp_path, *(f"{side}/Kick/{name}" for side in ("train", "test")
                     for name in ("1.jpg", "2.jpg", "001/1.jpg")))
    assert [video.name for video in find_videos(str(tmp_path))] == ["test/Kick/001", "train/Kick/001"]


def test_the_group_may_stand_in_the_name_of_the_folder_of_frames(tmp_path, capsys):
    tree(tmp_path, *(f"{name}/v_{name}_g0{group}_c0{clip}/img/1.jpg"
                     for name in ("YoYo", "Punch") for group in range(6, 10) for clip in (1, 2)))
    load(tmp_path, split="group")
    assert "sources: 3 in training, 1 in the test, 0 in both" in printed(capsys)
    load(tmp_path, split="official1", action_name_path=str(functions.UCF101_LIST))
    assert "sources: 4 in training, 4 in the test, 0 in both" in printed(capsys)  # of each action its own


def test_own_videos_of_ucf101s_actions_keep_their_sources(tmp_path, capsys):
    """UCF101 numbers its groups anew in each action; a person's number is the same in all."""
    path = str(REPO / "UCF101actions.pkl")
    tree(tmp_path, *(f"{name}/clip_g{g:02d}_c01.avi" for name in ("YoYo", "PushUps") for g in range(6)))
    load(tmp_path, split="group", action_name_path=path)
    assert "sibling from the same" not in printed(capsys)
    tree(tmp_path, *(f"YoYo/v_YoYo_g{g:02d}_c01.avi" for g in (1, 2)))
    videos = label_videos(find_videos(str(tmp_path)), functions.load_action_names(path))
    assert {video.source for video in videos} == {*(f"g{g}" for g in range(6)), "YoYo g1", "YoYo g2"}


def test_training_files_of_several_frame_rates_are_said(tmp_path, capsys):
    images = make_images(1, count=3, height=16, width=16)
    for name, rate in itertools.product("abcd", (25, 50)):
        write_video(tmp_path / "Bend" / f"{name}{rate}.mp4", images, rate=rate)
    load(tmp_path)
    assert re.search(r"Rate [1-4] of 6 training files looked at have not the usual (25|50)", printed(capsys))


def test_a_test_of_other_actions_than_the_training_is_refused(tmp_path):
    tree(tmp_path, *(f"train/Bend/{n}.mov" for n in range(3)), "test/Wave/1.mov")
    with pytest.raises(InputError, match="3 of the 4 videos in training and 1 .* no action in both"):
        load(tmp_path, split="folders")


def test_a_folder_of_its_class_is_no_source(tmp_path, capsys):
    load(tree(tmp_path, *(f"{name}/{n}.avi" for name in ("Bend/bend", "Wave/wave") for n in range(4))))
    out = printed(capsys)
    assert "The source of 8 of 8 videos is not known" in out and "sibling from" not in out


@pytest.mark.parametrize("sides", [("train_256", "val_256"), ("train",), ("trainset", "testset"),
                                   ("rawframes_train", "rawframes_val")], ids=str)
def test_the_sides_of_a_split_are_not_taken_for_actions(tmp_path, sides):
    tree(tmp_path, *(f"{side}/{action}/1.mp4" for side in sides for action in ("Bend", "Wave")))
    with pytest.raises(InputError, match="call the sides of a split train and test"):
        load(tmp_path)
    tree(tmp_path / "trains", *(f"train {what}/{n}.mp4" for what in ("arrives", "leaves") for n in range(4)))
    assert len(load(tmp_path / "trains").action_names) == 2


def test_a_single_action_is_said_to_be_one(tmp_path, capsys):
    load(tree(tmp_path, *(f"Bend/{n}.mov" for n in range(4))))
    assert "They are all of one action, Bend" in printed(capsys)


def test_the_frame_rate_is_the_commonest_of_training_if_it_makes_sense(tmp_path):
    images = make_images(0, count=3)
    write_frames(tmp_path / "Bend" / "frames", images)
    for name, rate in (("a", 50), ("b", 50), ("c", 25), ("d", 50)):
        write_video(tmp_path / "Bend" / f"{name}.mp4", images, rate=rate)
    assert load(tmp_path).frame_rate == 50
    film(tmp_path / "1000.mkv", images, rate=1000)
    assert functions.frame_rate(str(tmp_path / "1000.mkv")) is None
    assert functions.frame_rate(str(tmp_path / "Bend" / "frames")) is None
    (tmp_path / "phones" / "Bend").mkdir(parents=True)
    for rate in (15, 15.001, 29.5, 29.6, 29.7, 29.8, 29.9, 30):  # as phones write them
        film(tmp_path / "phones" / "Bend" / f"{rate}.mkv", images, rate=Fraction(str(rate)))
    assert load(tmp_path / "phones").frame_rate > 29
    (tmp_path / "broken.avi").write_bytes(b"RIFF" * 100)
    assert functions.frame_rate(str(tmp_path / "broken.avi")) is None


# ------------------------------------------------------------------------------ clips


def test_clips_are_uint8_and_laid_out_for_each_model(small_data):
    videos = label_videos(find_videos(str(small_data / "jpegs")), ACTIONS)
    X, y = Dataset_CRNN(videos, FRAMES, 20, 26)[9]
    assert (X.shape, X.dtype, y) == ((10, 3, 20, 26), torch.uint8, videos[9].label) and y == 1
    X3, _ = functions.Dataset_3DCNN(videos, FRAMES, 20, 26)[9]
    assert X3.shape == (3, 10, 20, 26) and torch.equal(X3.transpose(0, 1), X)
    grey, _ = functions.Dataset_3DCNN(videos, FRAMES, 20, 26, channels=1)[9]
    assert grey.shape == (1, 10, 20, 26)


def test_frames_are_resized_as_pillow_does(small_data):
    folder = small_data / "jpegs" / "v_Biking_g01_c01"
    clip, _, _ = read(folder, [1, 5, 9], 24, 17)
    for t, number in enumerate((1, 5, 9)):
        with Image.open(folder / f"frame{number:06d}.jpg") as image:
            pillow = np.asarray(resize(image, [24, 17])).astype(int)
        assert abs(clip[t].permute(1, 2, 0).numpy() - pillow).max() <= 1


def test_a_video_file_gives_the_frames_asked_for_in_colour_or_grey(tmp_path):
    images = make_images(3, height=48, width=64)
    write_video(tmp_path / "film.avi", images)
    clip, unreadable, _ = read(tmp_path / "film.avi", [2, 5, 8], 48, 64)
    assert clip.shape == (3, 3, 48, 64) and not unreadable
    for t, number in enumerate((2, 5, 8)):  # lossy, and colours are coarser than light
        assert abs(clip[t].permute(1, 2, 0).numpy().astype(int) - images[number - 1]).mean() < 12
    grey, _, _ = read(tmp_path / "film.avi", [2], 48, 64, channels=1)
    assert grey.shape == (1, 1, 48, 64)
    luma = np.asarray(Image.fromarray(images[1]).convert("L")).astype(int)
    assert abs(grey[0, 0].numpy() - luma).mean() < 12


def test_clips_are_spread_evenly_over_a_video():
    def first_frames(clips, count):
        spread = functions.spread_clips(FRAMES, clips, count)
        assert all(np.diff(clip).tolist() == [1] * 9 for clip in spread)
        return [clip[0] for clip in spread]

    assert first_frames(5, 50) == [1, 11, 21, 31, 41]
    assert first_frames(5, 30) == [1, 6, 11, 16, 21]  # they overlap
    assert first_frames(5, 7) == [1] * 5  # shorter than one
    assert first_frames(2, 33) == [1, 24] and first_frames(1, 33) == [1]
    assert functions.spread_clips([3, 5, 7], 3, 11) == [[3, 5, 7], [5, 7, 9], [7, 9, 11]]


@pytest.mark.parametrize("stored", ["folder", "film.avi"])
@pytest.mark.parametrize("count, same", [(50, 1), (17, 1), (7, 5)])
def test_each_of_several_clips_is_the_same_alone_and_with_the_others(tmp_path, stored, count, same):
    write_frames(tmp_path / "folder", make_images(1, count=count))
    write_video(tmp_path / "film.avi", make_images(1, count=count))
    path = tmp_path / stored
    for cls in (Dataset_CRNN, functions.Dataset_3DCNN):
        dataset = cls([Video("x", str(path), "A", "", label=7)], FRAMES, 16, 16, clips=5)
        clips, y = dataset[0]
        assert len(clips) == 5 and y == 7 and dataset.counts[0] == count
        for k in range(5):
            clip, y = dataset[0, k]
            assert y == 7 and torch.equal(clip, clips[k])
        assert sum(torch.equal(clips[0], clip) for clip in clips) == same
        first, _ = cls(dataset.videos, FRAMES, 16, 16)[0]
        assert torch.equal(clips[0], first)


BROKEN = {  # frames that are not there, of a folder; the frame numbers of the first clip; clips
    "one frame": ([4], [1, 4, 7], 2),
    "a clip's last": ([10, 20, 30], FRAMES, 3),
    "all of a clip": (range(18, 34), FRAMES, 5),
    "all of the first clip": (range(1, 12), FRAMES, 5),
}


@pytest.mark.parametrize("broken, numbers, clips", BROKEN.values(), ids=BROKEN)
def test_a_clip_has_the_same_stand_ins_alone_and_with_the_others(tmp_path, broken, numbers, clips):
    count = 8 if clips == 2 else 10 * clips
    write_frames(tmp_path / "folder", make_images(1, count=count))
    for number in broken:
        (tmp_path / "folder" / f"frame{number:06d}.jpg").write_bytes(b"")
    videos = [Video("x", str(tmp_path / "folder"), "A", "", label=0)]
    dataset = Dataset_CRNN(videos, numbers, 16, 16, clips=clips)
    for k, clip in enumerate(dataset[0][0]):
        assert torch.equal(dataset[0, k][0], clip), k


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """How many frames each call of decode delivered."""
    counts, decode = [], functions.decode

    def counting(path):
        counts.append(0)
        for numbered in decode(path):
            counts[-1] += 1
            yield numbered

    monkeypatch.setattr(functions, "decode", counting)
    return counts


def test_a_file_is_decoded_once_for_all_clips_and_not_beyond_the_last_frame(tmp_path, decoded):
    write_video(tmp_path / "film.avi", make_images(0, count=60))
    videos = [Video("x", str(tmp_path / "film.avi"), "A", "", label=0)]
    Dataset_CRNN(videos, FRAMES, 16, 16)[0]
    assert decoded == [10]
    dataset = Dataset_CRNN(videos, FRAMES, 16, 16, clips=3)  # at frames 1, 26, 51
    dataset[0]
    assert decoded == [10, 60, 60]  # once to count its frames
    dataset[0, 1]
    assert decoded == [10, 60, 60, 35]


# ------------------------------------------------------------------------------ the pictures a viewer shows


def film(path: Path, images, codec="mpeg4", pix_fmt="yuv420p", rate=25, times=None, **options) -> Path:
    """Write a video file with PyAV; times: of its frames, in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def patch(path: Path, after: bytes, offset: int, new: bytes) -> Path:
    """Overwrite bytes of a file, `offset` behind the first occurrence of a word."""
    data = bytearray(path.read_bytes())
    start = data.index(after) + len(after) + offset
    data[start:start + len(new)] = new
    path.write_bytes(data)
    return path


def mjpeg(path: Path, images) -> Path:
    return film(path, images, "mjpeg", "yuvj420p")


def frames_in_header(path: Path, count: int) -> Path:
    """Let an .avi claim another number of frames."""
    patch(path, b"avih", 4 + 16, struct.pack("<I", count))
    return patch(path, b"strh", 4 + 32, struct.pack("<I", count))


def noise_in_packet(path: Path, number: int) -> Path:
    """Overwrite a packet of an .avi with noise."""
    data = bytearray(path.read_bytes())
    start = data.index(b"movi") + 4
    for _ in range(number):
        begin, size = start + 8, struct.unpack("<I", data[start + 4:start + 8])[0]
        start = begin + size + size % 2
    data[begin:begin + size] = np.random.default_rng(0).bytes(size)
    path.write_bytes(data)
    return path


def displayed_by(a, b, c, d, show):
    """An .mp4 whose display matrix shows (x, y) at (ax + cy, bx + dy)."""
    def make(folder, images):
        path = film(folder / "film.mp4", images, "libx264")
        values = [round(65536 * value) for value in (a, b, 0, c, d, 0, 0, 0)]
        return patch(path, b"tkhd", 40, struct.pack(">8i", *values)), [show(image) for image in images]

    return make


def two_streams(folder, images, suffix="mp4"):
    with av.open(str(folder / f"film.{suffix}"), "w") as container:
        streams = []
        for scale in (2, 1):
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = images[0].shape[0] // scale, 64 // scale, "yuv420p"
            marked = scale == 1 and suffix == "mp4"  # of another only the size tells
            stream.disposition = av.stream.Disposition.default.value if marked else 0
            streams.append(stream)
        for image in images:
            preview = np.ascontiguousarray(255 - image[::2, ::2])
            container.mux(streams[0].encode(av.VideoFrame.from_ndarray(preview, format="rgb24")))
            container.mux(streams[1].encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    return folder / f"film.{suffix}", images


def cover_first(folder, images):
    with av.open(str(folder / "film.mkv"), "w") as container:
        cover, stream = container.add_stream("mjpeg", rate=25), container.add_stream("libx264", rate=25)
        cover.height, cover.width, cover.pix_fmt = 96, 128, "yuvj420p"
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "yuv420p"
        black = np.zeros((96, 128, 3), np.uint8)
        container.mux(cover.encode(av.VideoFrame.from_ndarray(black, format="rgb24")))
        container.mux(cover.encode())
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return folder / "film.mkv", images


def several_frames_a_packet(folder, images):
    """As broadcasts have them: most frames have no time of their own."""
    with av.open(str(film(folder / "whole.ts", images, "mpeg2video", bf="0"))) as source:
        with av.open(str(folder / "film.ts"), "w") as container:
            stream = container.add_stream_from_template(source.streams.video[0])
            packets = [packet for packet in source.demux(video=0) if packet.size]
            for k, first in enumerate(packets[::3]):
                joined = av.Packet(b"".join(map(bytes, packets[3 * k:3 * k + 3])))
                joined.pts, joined.dts, joined.time_base = first.pts, first.dts, first.time_base
                joined.stream = stream
                container.mux(joined)
    return folder / "film.ts", images


def title_in_latin_1(folder, images):
    path = film(folder / "film.avi", images)
    with av.open(str(path)) as source, av.open(str(folder / "titled.avi"), "w") as container:
        container.metadata["title"] = "Caf? noir"
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    return patch(folder / "titled.avi", b"Caf", 0, b"\xe9"), images


def cut_without_reencoding(folder, images):
    """The edit list leaves frames 6 to 12 of 20."""
    path = film(folder / "film.mp4", images, "libx264", bf="0")
    with av.open(str(path)) as container:
        tick = container.streams.video[0].time_base
    return patch(path, b"elst", 8, struct.pack(">II", 7 * 40, int(Fraction(5, 25) / tick))), images[5:12]


def cut_before_a_key_frame(folder, images):
    """The recording begins amid frames that refer to earlier ones; the first key frame is the 11th."""
    path = film(folder / "film.ts", images, "libx264", g="10", bf="0", sc_threshold="0")
    with av.open(str(path)) as container:
        begin = [packet.pos for packet in container.demux(video=0) if packet.size][4]
    path.write_bytes(path.read_bytes()[begin // 188 * 188:])
    return path, images[10:]


def marked_corrupt(folder, images):
    """Half of a packet is zeros: the H.264 decoder delivers a frame, and marks it."""
    path = film(folder / "film.mp4", images, "libx264", g="1")
    with av.open(str(path)) as container:
        packet = list(container.demux(video=0))[6]
        begin, end = packet.pos + packet.size // 2, packet.pos + packet.size
    data = bytearray(path.read_bytes())
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    return path, [*images[:6], None, *images[7:]]


def exif_turned(folder, images):
    stored = {1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud,
              5: lambda x: x.swapaxes(0, 1), 6: np.rot90, 7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
              8: lambda x: np.rot90(x, -1)}
    for orientation, turn in stored.items():
        image = Image.fromarray(np.ascontiguousarray(turn(images[orientation])))
        exif = image.getexif()
        exif[0x0112] = orientation
        image.save(folder / f"IMG_{orientation}.jpg", quality=95, exif=exif)
    return folder, images[1:9]


def png_named_jpg(folder, images):
    for number, image in enumerate(images, start=1):
        Image.fromarray(image).save(folder / f"frame{number:06d}.jpg", "png")
    return folder, images


def grey_of_16_bits(folder, images):
    grey = [np.asarray(Image.fromarray(image).convert("L")) for image in images]
    for number, image in enumerate(grey):
        Image.fromarray(image.astype(np.uint16) * 257).save(folder / f"{number}.png")
    return folder, [np.stack([image] * 3, -1) for image in grey]


def mixed_sizes(folder, images):
    for number, image in enumerate(images):
        size = [(64, 48), (33, 71), (200, 150), (48, 64)][number % 4]
        Image.fromarray(image).resize(size).save(folder / f"{number}.png")
    return folder, images


def mixed_formats(folder, images):
    pictures = [Image.fromarray(image) for image in images]
    pictures[0].save(folder / "1.png")
    pictures[1].save(folder / "2.JPG", "jpeg", quality=95, progressive=True)
    pictures[2].convert("CMYK").save(folder / "3.jpeg", quality=95)
    pictures[3].save(folder / "4.bmp")
    pictures[4].save(folder / "5.webp")
    pictures[5].convert("RGBA").save(folder / "6.PNG")
    pictures[6].quantize(256).save(folder / "7.png")
    return folder, images[:7]


def numbered(pattern: str, first: int):
    """A frame folder of other names than frame000001.jpg, ..."""
    def make(folder, images):
        for number, image in enumerate(images, start=first):
            Image.fromarray(image).save(folder / pattern.format(number))
        return folder, images

    return make


UNEVEN = [7 * n + 10 * n * n for n in range(20)]
ODD = {  # each makes a video of the images in a folder, and returns it and what a viewer shows of it
    "mirrored, as a front camera": displayed_by(-1, 0, 0, 1, np.fliplr),
    "upside down and mirrored": displayed_by(1, 0, 0, -1, np.flipud),
    "rotated by 90": displayed_by(0, 1, -1, 0, lambda image: np.rot90(image, -1)),
    "rotated by 180": displayed_by(-1, 0, 0, -1, lambda image: np.rot90(image, 2)),
    "rotated by 270": displayed_by(0, -1, 1, 0, np.rot90),
    "rotated by 80": displayed_by(0.17, 0.98, -0.98, 0.17, lambda image: np.rot90(image, -1)),
    "rotated by 90, mirrored": displayed_by(0, 1, 1, 0, lambda image: image.swapaxes(0, 1)),
    "rotated by 270, mirrored": displayed_by(0, -1, -1, 0, lambda image: np.rot90(image, 2).swapaxes(0, 1)),
    "a preview comes first": two_streams,
    "a preview comes first, none is marked": lambda folder, images: two_streams(folder, images, "mkv"),
    "several frames a packet": several_frames_a_packet,
    "a title that is no UTF-8": title_in_latin_1,
    "a large cover comes first": cover_first,
    "a damaged packet": lambda folder, images: (
        noise_in_packet(mjpeg(folder / "film.avi", images), 7), [*images[:6], None, *images[7:]]),
    "a damaged first packet": lambda folder, images: (
        noise_in_packet(mjpeg(folder / "film.avi", images), 1), [None, *images[1:]]),
    "a frame that the decoder marks corrupt": marked_corrupt,
    "a header of too many frames": lambda folder, images: (
        frames_in_header(mjpeg(folder / "film.avi", images), 300), images),
    "a header of too few frames": lambda folder, images: (
        frames_in_header(mjpeg(folder / "film.avi", images), 3), images),
    "cut without re-encoding": cut_without_reencoding,
    "cut before a key frame": cut_before_a_key_frame,
    "variable rate, .mkv": lambda folder, images: (
        film(folder / "film.mkv", images, "libx264", times=UNEVEN), images),
    "variable rate, .webm": lambda folder, images: (
        film(folder / "film.webm", images, "libvpx-vp9", times=UNEVEN), images),
    "1,000 frames a second": lambda folder, images: (
        film(folder / "film.webm", images, "libvpx-vp9", rate=1000, crf="10", b="0"), images),
    "B-frames": lambda folder, images: (film(folder / "film.mov", images, "libx264", bf="3"), images),
    ".gif": lambda folder, images: (film(folder / "film.gif", images, "gif", "rgb8"), images),
    ".mpg": lambda folder, images: (film(folder / "film.mpg", images, "mpeg2video"), images),
    ".wmv": lambda folder, images: (film(folder / "film.wmv", images, "wmv2"), images),
    ".flv": lambda folder, images: (film(folder / "film.flv", images, "flv"), images),
    "JPEG frames turned by EXIF": exif_turned,
    "PNG frames named .jpg": png_named_jpg,
    "PNG frames, 16 bits, grey": grey_of_16_bits,
    "frames of four sizes": mixed_sizes,
    "frames of all formats, progressive, CMYK, transparent": mixed_formats,
    "img_2 before img_10": numbered("img_{}.png", 1),
    "frames from 0": numbered("frame{:06d}.jpg", 0),
    "frames from 100": numbered("frame{:06d}.jpg", 100),
    "numbers alone, from 95": numbered("{}.bmp", 95),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_a_clip_has_the_pictures_that_a_viewer_shows(tmp_path, make):
    path, shown = make(tmp_path, make_images(1, 20, 48, 64))
    numbers = list(range(1, len(shown) + 1))
    readable = [number for number in numbers if shown[number - 1] is not None]
    expected = np.stack([shown[number - 1] for number in readable]).astype(int)  # (T, H, W, 3)
    clip, unreadable, _ = read(path, numbers, *expected.shape[1:3])
    assert unreadable == [number for number in numbers if number not in readable]
    pixels = clip[[number - 1 for number in readable]].permute(0, 2, 3, 1).numpy().astype(int)
    difference = abs(pixels[:, None] - expected).mean((2, 3, 4))  # of each picture from each expected one
    assert difference.argmin(1).tolist() == list(range(len(readable)))
    assert difference.diagonal().max() < 20  # lossy; .gif has 256 colours; others are 40 and more apart


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_what_the_decoder_delivers_is_a_videos_length(tmp_path, make):
    path, shown = make(tmp_path, make_images(1, 20, 48, 64))
    numbers = list(range(1, len(shown) + 6))
    clip, unreadable, end = read(path, numbers, 48, 64)
    assert end == len(shown) and all(number <= end for number in unreadable)
    assert all(torch.equal(frame, clip[end - 1]) for frame in clip[end:])  # the last one is held
    dataset = Dataset_CRNN([Video("x", str(path), "A", "", label=0)], numbers, 48, 64)
    assert torch.equal(dataset[0][0], clip) and dataset.ends[0] == len(shown)
    assert functions.count_frames(str(path)) == len(shown)
    if path.is_file():
        times = check_model_prediction.frame_times(str(path))
        assert len(times) == len(shown) and times == sorted(times)


@pytest.mark.skipif(os.name == "nt", reason="Windows forbids such names")
@pytest.mark.parametrize("name", ["take:2.avi", "http:x.avi", "pipe:0.avi", "%03d.avi", "new\nline.avi",
                                  "-i.avi", "视频 é.avi", "caf\udce9.avi"], ids=ascii)
def test_a_file_of_any_name_is_read(tmp_path, monkeypatch, name):
    film(tmp_path / "film.avi", make_images(0, count=3))
    monkeypatch.chdir(tmp_path)
    try:
        shutil.copy("film.avi", name)
    except OSError:
        pytest.skip("no such name here")
    clip, unreadable, end = read(name, [1, 2, 3], 16, 16)
    assert not unreadable and end == 3


def test_few_frames_are_in_memory_at_a_time(tmp_path, monkeypatch):
    sizes, interpolate = [], functions.F.interpolate

    def spying(X, **options):
        sizes.append((len(X), X.nbytes))
        return interpolate(X, **options)

    monkeypatch.setattr(functions.F, "interpolate", spying)
    write_video(tmp_path / "film.avi", np.zeros((28, 720, 1280, 3), np.uint8))
    read(tmp_path / "film.avi", list(range(1, 29)), 16, 16)
    frames, size = zip(*sizes, strict=True)
    assert sum(frames) == 28 and max(frames) > 1 and max(size) <= 8_000_000


def test_a_picture_twice_in_two_formats_is_refused(tmp_path):
    for name in ("img_1.jpg", "img_2.jpg", "img_1.png", "img_2.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with pytest.raises(InputError, match="several series of images"):
        read(tmp_path, [1, 2], 8, 8)


def test_reading_a_clip_does_not_change_which_frames_the_next_read_takes(tmp_path, monkeypatch):
    write_video(tmp_path / "film.avi", make_images(0, count=8))
    monkeypatch.setattr(functions, "count_frames", lambda path: 100)  # packets; few can be decoded
    video = Video("A/film", str(tmp_path / "film.avi"), "A", "")
    dataset = Dataset_CRNN([video], [1, 4, 7, 10], 8, 8, clips=4)
    before = dataset.frame_numbers_of(0)
    dataset[0]
    assert dataset.frame_numbers_of(0) == before and dataset.ends[0] == 8


def test_seconds_begin_at_the_start_of_a_recording_that_began_earlier(tmp_path):
    with av.open(str(tmp_path / "film.ts"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number, image in enumerate(make_images(0, count=10, height=48, width=64)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = 25 * 3600 + number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    times = check_model_prediction.frame_times(str(tmp_path / "film.ts"))
    assert times == pytest.approx([number / 25 for number in range(10)], abs=0.001)


@pytest.mark.skipif("libvpx" not in av.codecs_available, reason="writes VP8")
def test_packets_that_show_nothing_are_no_frames(tmp_path):
    whole = film(tmp_path / "whole.webm", make_images(0, count=10), "libvpx")
    with av.open(str(whole)) as source, av.open(str(tmp_path / "hidden.webm"), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            data = bytearray(packet)
            if number in (3, 7):
                data[0] &= ~0x10  # VP8's show_frame: pictures that others refer to need not be shown
            hidden = av.Packet(bytes(data))
            hidden.pts, hidden.dts, hidden.time_base = packet.pts, packet.dts, packet.time_base
            hidden.is_keyframe, hidden.stream = packet.is_keyframe, stream
            container.mux(hidden)
    assert len(check_model_prediction.frame_times(str(whole))) == 10
    assert len(check_model_prediction.frame_times(str(tmp_path / "hidden.webm"))) == 8
    assert [number for number, _ in functions.decode(str(tmp_path / "hidden.webm"))] == list(range(1, 9))


def test_the_clock_of_joined_files_goes_on(tmp_path):
    parts = [film(tmp_path / f"{n}.ts", make_images(n, count=12), "mpeg2video").read_bytes() for n in (1, 2)]
    (tmp_path / "film.ts").write_bytes(b"".join(parts))
    times = check_model_prediction.frame_times(str(tmp_path / "film.ts"))
    assert times == pytest.approx([number / 25 for number in range(24)], abs=0.001)


def test_two_series_of_images_in_one_folder_are_refused(tmp_path):
    for name, n in itertools.product(("rgb", "flow"), (1, 2)):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}_{n}.jpg")
    with pytest.raises(InputError, match="several series of images .flow_#, rgb_#") as refusal:
        read(tmp_path, [1, 2], 8, 8)
    assert refusal.type is InputError  # not a video that cannot be read, with the advice to remove it


# ------------------------------------------------------------------------------ short and broken


@pytest.mark.parametrize("stored", ["folder", "film.avi"])
def test_a_short_video_holds_its_last_frame_and_is_counted(tmp_path, capsys, stored):
    write_frames(tmp_path / "folder", make_images(0, count=7))
    write_video(tmp_path / "film.avi", make_images(0, count=7))
    videos = [Video("Bend/other", "", "A", ""), Video("Bend/short", str(tmp_path / stored), "A", "")]
    dataset = Dataset_CRNN(videos, FRAMES, 20, 20)
    clip, _ = dataset[1]
    assert all(torch.equal(clip[t], clip[6]) for t in (7, 8, 9)) and not torch.equal(clip[5], clip[6])
    assert dataset.ends.tolist() == [0, 7]
    functions.say_short_videos(dataset)
    functions.say_short_videos(dataset)
    out, err = capsys.readouterr()
    assert err == "" and " ".join(out.split()).count("1 of 2 videos end before frame 10") == 1
    assert "the shortest, Bend/short, has 7" in " ".join(out.split())


def test_a_clip_that_begins_beyond_the_end_holds_the_last_frame(tmp_path):
    write_video(tmp_path / "film.avi", make_images(0, count=7))
    write_frames(tmp_path / "folder", make_images(0, count=7))
    for path in (tmp_path / "film.avi", tmp_path / "folder"):
        clip, unreadable, end = read(path, [20, 21], 20, 20)
        last, _, _ = read(path, [7], 20, 20)
        assert torch.equal(clip[0], last[0]) and torch.equal(clip[1], last[0])
        assert (unreadable, end) == ([], 7)


def test_a_file_that_was_cut_off_gives_what_is_there(tmp_path):
    path = mjpeg(tmp_path / "film.avi", make_images(0, count=12))
    whole, _, _ = read(path, FRAMES, 20, 20)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    clip, unreadable, end = read(path, FRAMES, 20, 20)
    readable = end - len(unreadable)
    assert 3 <= readable < 10 and torch.equal(clip[:readable - 1], whole[:readable - 1])
    assert all(torch.equal(frame, clip[readable]) for frame in clip[readable:])


def broken_frames(folder):
    """Frame 3 is truncated, 4 empty, 5 no JPEG."""
    data = (folder / "frame000003.jpg").read_bytes()
    (folder / "frame000003.jpg").write_bytes(data[: len(data) // 2])
    (folder / "frame000004.jpg").write_bytes(b"")
    (folder / "frame000005.jpg").write_bytes(b"no picture")


def test_the_nearest_readable_frame_stands_in_and_each_video_is_named_once(small_data, tmp_path, capsys):
    folder = tmp_path / "v_Punch_g01_c01"
    shutil.copytree(small_data / "jpegs" / "v_Punch_g01_c01", folder)
    whole, _, _ = read(folder, FRAMES, 20, 20)
    broken_frames(folder)
    (folder / "frame000008.jpg").unlink()  # a gap
    dataset = Dataset_CRNN(label_videos(find_videos(str(tmp_path)), ACTIONS), FRAMES, 20, 20)
    clip, _ = dataset[0]
    assert torch.equal(clip, whole[[0, 1, 1, 1, 5, 5, 6, 6, 8, 9]])
    dataset[0]
    err = capsys.readouterr().err
    assert err.count("v_Punch_g01_c01: frame 3, 4, 5, 8 cannot be read; the nearest readable one stands") == 1
    assert dataset.ends[0] == 0  # it is not short


UNREADABLE = {  # files below data_path, and their content
    "a frame that is no picture": ("video/frame000001.jpg", b"x"),
    "an empty frame": ("video/img.png", b""),
    "a folder without pictures": ("video/notes.txt", b"x"),
    "an empty file": ("video.avi", b""),
    "a file of rubbish": ("video.avi", b"RIFF" * 100),
    "a text named .mp4": ("video.mp4", b"<html>404</html>"),
}


@pytest.mark.parametrize("file, content", UNREADABLE.values(), ids=UNREADABLE)
def test_a_video_without_a_readable_frame_is_an_unreadable_video(tmp_path, file, content):
    (tree(tmp_path, file) / file).write_bytes(content)
    video = file.split("/")[0]
    with pytest.raises(UnreadableVideo, match=f"{video}: none of its frames 1 to 10 can be read"):
        read(tmp_path / video, FRAMES, 20, 20)
    (tmp_path / file).unlink()  # while training goes on
    with pytest.raises(UnreadableVideo, match=f"{video}: none of its frames 1 to 10 can be read"):
        read(tmp_path / video, FRAMES, 20, 20)


def sound_alone(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_file_without_a_video_stream_is_called_that(tmp_path):
    with pytest.raises(InputError, match=r"sound\.mp4 has no video stream"):
        read(sound_alone(tmp_path / "sound.mp4"), FRAMES, 20, 20)
    (tmp_path / "list.txt").write_text("Bend/1.mp4\n" * 500)  # which FFmpeg would play as text art
    with pytest.raises(InputError, match=r"list\.txt has no video stream"):
        read(tmp_path / "list.txt", FRAMES, 20, 20)


def test_all_unreadable_videos_are_named_when_one_is_met(tmp_path):
    write_frames(tmp_path / "good", make_images(0, count=2))
    (tmp_path / "rubbish.avi").write_bytes(b"x")
    sound_alone(tmp_path / "sound.mp4")
    videos = [Video(name, str(tmp_path / name), "A", "") for name in ("good", "rubbish.avi", "sound.mp4")]
    args = argparse.Namespace(begin_frame=1, end_frame=3, skip_frame=1, clips=1, num_workers=1,
                              save_model_path=str(tmp_path))
    for index in (1, 2):
        with pytest.raises(InputError, match="2 of 3 videos cannot be read: .*rubbish.avi, .*sound.mp4\n"):
            with functions.unreadable_videos_named(args, videos):
                Dataset_CRNN(videos, FRAMES, 8, 8)[index]
        named = (tmp_path / "unreadable_videos.txt").read_text("utf-8").splitlines()
        assert named == [video.path for video in videos[1:]]


SYSTEM = {
    "no memory": (MemoryError(), "the memory is full: lower --batch_size"),
    "no file handles": (OSError(errno.EMFILE, "x"), "Too many open files: lower --num_workers.*ulimit"),
    "no permission": (OSError(errno.EACCES, "x"), "Permission denied"),
}


@pytest.mark.parametrize("stored", ["folder", "film.avi"])
@pytest.mark.parametrize("error, message", SYSTEM.values(), ids=SYSTEM)
def test_what_the_system_refuses_is_no_unreadable_video(tmp_path, monkeypatch, stored, error, message):
    def refuse(*args, **options):
        raise error

    write_frames(tmp_path / "folder", make_images(0, count=3))
    write_video(tmp_path / "film.avi", make_images(0, count=3))
    monkeypatch.setattr(functions.Image, "open", refuse)
    monkeypatch.setattr(functions.av, "open", refuse)
    with pytest.raises(InputError, match=message) as raised:
        read(tmp_path / stored, [1, 2], 20, 20)
    assert not isinstance(raised.value, UnreadableVideo) and stored in str(raised.value)


# ------------------------------------------------------------------------------ a thousand of each

NAMES = ["Bend", "Wave", "wave", " Wave ", "Punch", "film", "1", "001", "anna 1", "g01", "clip_g01_c01",
         "v_Punch_g01_c01", "v_punch_g01_c01", "v_Wave_g01_c01", "v__g1_c1", "v_Punch_g01_c01_copy",
         "Über", unicodedata.normalize("NFD", "Über"), "视频", "caf\udce9",
         "new\nline", "x.y", " ", "%d", "a_g2_c1"]
TOP = ["Bend", "Wave", "Punch", "Wave ", "Über", "train", "Train", "test", "val", "valid", "extra"]
SUFFIXES = [".mp4", ".AVI", ".mov", ".gif", ".txt", ".md", "", ".jpg", ".png"]


@pytest.fixture
def memory(tmp_path) -> Path:
    """A folder for thousands of small files, in memory where the system has such."""
    if not os.path.isdir("/dev/shm"):
        yield tmp_path
    else:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            yield Path(folder)


def grow(folder: Path, rng: random.Random, depth: int, contents: dict) -> None:
    """Make random entries in a folder. What the file system does not allow is left out."""
    for _ in range(rng.choice((0, 1, 2, 2, 3, 4))):
        name = rng.choice(NAMES if depth else TOP + NAMES[:1])
        kind = rng.choices(("folder", "video", "frames", "file", "link", "hidden"),
                           (6 - depth, 5 * depth + 1, 3, 1, 0.3, 0.5))[0]
        path = folder / name
        with contextlib.suppress(OSError):
            if kind == "folder" and depth < 5:
                path.mkdir()
                grow(path, rng, depth + 1, contents)
            elif kind == "video":
                path = path.with_name(f"{name}{rng.randrange(40)}.mov") if rng.random() < 0.7 else path
                path.with_name(path.name + rng.choice(SUFFIXES[:4])).write_bytes(contents["video"])
            elif kind == "frames":
                path.mkdir()
                pattern = rng.choice(("frame{:06d}.jpg", "img_{}.PNG", "{}.jpeg"))
                for number in range(1, rng.randrange(2, 4)):
                    (path / pattern.format(number)).write_bytes(contents["picture"])
                if rng.random() < 0.1 and not functions.VIDEO_NAME.fullmatch(name):
                    grow(path, rng, 5, contents)
            elif kind == "file":
                path.with_name(name + rng.choice(SUFFIXES)).write_bytes(rng.choice([b"", *contents.values()]))
            elif kind == "link":
                path.symlink_to(rng.choice((folder, folder.parent, "nowhere", name, "film.mp4", "Bend")))
            elif kind == "hidden":
                path.with_name("." + name + rng.choice(SUFFIXES)).write_bytes(b"")


def survey(folder: str, depth: int = 0) -> tuple[list[str], Counter]:
    """The videos below a folder, and how many entries are none by kind, looked up anew."""
    videos, others = [], Counter()
    paths = [os.path.join(folder, name) for name in os.listdir(folder) if name[0] != "."]
    folders, files = list(filter(os.path.isdir, paths)), list(filter(os.path.isfile, paths))
    films = [path for path in files if path.lower().endswith(functions.VIDEO_SUFFIXES)]
    images = [path for path in files if path.lower().endswith(functions.IMAGE_SUFFIXES)]
    if depth and images and not films and (len(images) > 1 or not folders):
        videos.append(folder)
    elif images:
        others["pictures beside videos or folders"] += len(images)
    others["files of other kinds"] += len(files) - len(films) - len(images)
    others["broken links"] += len(paths) - len(files) - len(folders)
    others["empty folders"] += not paths
    for path in folders if depth < 5 else []:
        found, counts = survey(path, depth + 1)
        videos += found
        others += counts
    return videos + films, others


def skipped(out: str) -> Counter:
    """{reason: count} of the line on what was passed over."""
    line = re.search(r"^Skipped (.*(?:\n {8}.*)*)", out, re.MULTILINE)
    parts = " ".join(line[1].split()).split(", ") if line else []
    pairs = [part.rsplit(": ", 1) for part in parts]
    return Counter({reason: int(count.replace(",", "")) for reason, count in pairs})


def check_that_all_is_accounted_for(root: Path, data: functions.Data, out: str) -> None:
    found, others = survey(str(root))
    reasons = skipped(out)
    taken = {video.path for video in (*data.train, *data.test)}
    folders = {unicodedata.normalize("NFC", path) for path in taken if os.path.isdir(path)}
    named = {os.path.basename(path).casefold() for path in folders}  # a file of a folder's name counts as it
    left = [path for path in found if path not in taken]
    stems = [unicodedata.normalize("NFC", os.path.splitext(path)[0]) for path in left]
    unsaid = [stem for stem in stems
              if stem not in folders and os.path.basename(stem).casefold() not in named]
    said = sum(count for reason, count in reasons.items() if reason.startswith("videos"))
    assert taken <= set(found)
    if not reasons["folders too deep"]:
        assert len(unsaid) <= said <= len(left), (unsaid, reasons)
        assert all(reasons[kind] == count for kind, count in others.items()), (others, reasons)


def test_any_tree_of_files_is_accounted_for_or_refused(tmp_path, memory):
    rng = random.Random(0)
    video, picture = film(tmp_path / "film.mp4", make_images(0, 2, 16, 16)), tmp_path / "picture.png"
    Image.new("RGB", (8, 8)).save(picture)
    contents = {"video": video.read_bytes(), "picture": picture.read_bytes()}
    outcomes = Counter()
    for number in range(1000):
        root, out = memory / str(number) / "data", io.StringIO()
        root.mkdir(parents=True)
        for _ in range(3):
            grow(root, rng, 0, contents)
        test_list = tmp_path / "list.txt"
        test_list.write_text("".join(f"{rng.choice(NAMES[:10])}\n" for _ in range(9)), "utf-8")
        split = rng.choices(("random", "group", "folders", "official1", str(test_list)), (5, 3, 3, 1, 2))[0]
        actions = rng.choice(("none", "none", "none", str(functions.UCF101_LIST)))
        try:
            with contextlib.redirect_stdout(out):
                data = load(root, split=split, action_name_path=actions, seed=number)
            check_that_all_is_accounted_for(root, data, out.getvalue())
            Dataset_CRNN(data.train, [1, 2, 3], 8, 8)[0]
            outcomes["trained on"] += 1
        except InputError as error:
            outcomes["refused"] += 1
            assert str(error).strip()
        except Exception as error:
            raise AssertionError(f"tree {number} of split {split}, actions {actions}") from error
    assert min(outcomes["trained on"], outcomes["refused"]) > 150, outcomes


@pytest.mark.parametrize("good", [pickle.dumps(ACTIONS), "\n".join(ACTIONS).encode()], ids=["pickle", "text"])
def test_fuzzed_action_lists_raise_only_our_errors(tmp_path, good):
    rng = random.Random(0)
    for _ in range(500):
        (tmp_path / "actions").write_bytes(mutate(good, rng))
        with contextlib.suppress(InputError):
            assert all(type(name) is str for name in functions.load_action_names(str(tmp_path / "actions")))


def test_fuzzed_frames_give_a_clip(tmp_path):
    rng = random.Random(0)
    write_frames(tmp_path / "folder", make_images(0, count=2, height=16, width=16))
    frame = tmp_path / "folder" / "frame000001.jpg"
    jpeg = frame.read_bytes()
    for _ in range(500):
        frame.write_bytes(mutate(jpeg, rng))
        clip, unreadable, end = read(frame.parent, [1, 2], 16, 16)
        assert clip.shape == (2, 3, 16, 16) and set(unreadable) <= {1} and end == 2


@pytest.mark.parametrize("suffix, codec", [(".avi", "mpeg4"), (".mp4", "libx264"), (".gif", "gif"),
                                           (".mkv", "mpeg4")])
def test_fuzzed_video_files_give_a_clip_or_our_errors(tmp_path, suffix, codec):
    rng = random.Random(0)
    path, pix_fmt = tmp_path / f"film{suffix}", "rgb8" if codec == "gif" else "yuv420p"
    film(path, make_images(0, 5, 16, 16), codec, pix_fmt)
    good = path.read_bytes()
    for _ in range(100):
        path.write_bytes(mutate(good, rng))
        with contextlib.suppress(InputError):
            clip, unreadable, end = read(path, list(range(1, 8)), 16, 16)
            assert clip.shape == (7, 3, 16, 16) and len(unreadable) < 7 and end >= 0


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
