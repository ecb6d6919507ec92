"""Videos in folders and tables, action lists, splits, and what the start prints."""
import argparse
import contextlib
import os
import pickle
import random
import re
import unicodedata
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

import frames
import videos
from conftest import ACTIONS, Payload, make_images, tree, write, write_frames, write_video
from runs import InputError
from videos import Video, find_videos, label_videos, load_action_names, split_videos

LIST = str(videos.UCF101_LIST)
UCF101 = load_action_names(LIST)


def load(data_path: Path, **given) -> videos.Data:
    """load_videos as a script calls it, with the actions found unless a list is given."""
    args = dict(data_path=str(data_path), action_name_path="none", split="random", seed=42, begin_frame=1,
                end_frame=29, skip_frame=1, clips=1)
    return videos.load_videos(argparse.Namespace(**(args | given)))


def names_of(found: list[Video]) -> list[str]:
    return [video.name for video in found]


def all_of(found: list[Video], field: str) -> set:
    return {getattr(video, field) for video in found}


def printed(capsys) -> str:
    """What was printed, its line breaks as blanks."""
    return " ".join(capsys.readouterr().out.split())


# ------------------------------------------------------------------------------ videos in folders

NFC, NFD = (unicodedata.normalize(form, "Größe é") for form in ("NFC", "NFD"))
SUFFIXES = "avi mp4 m4v mov mkv webm mpg mpeg wmv flv 3gp ts gif AVI Mp4".split()
LAYOUTS = {  # files below data_path: {name: (action, source)}
    "class folders, names as they are": (
        ["Bend/anna 1.mov", "Bend/Ben.final.MP4", "Bend/001.mp4", "Wave/001.mp4", f"Wave/{NFD}.mp4"],
        {"Bend/anna 1": ("Bend", ""), "Bend/Ben.final": ("Bend", ""), "Bend/001": ("Bend", ""),
         "Wave/001": ("Wave", ""), f"Wave/{NFC}": ("Wave", "")}),
    "actions with a word of one side": (
        ["training dog/1.mov", "on a train/1.mov"],
        {"training dog/1": ("training dog", ""), "on a train/1": ("on a train", "")}),
    "source folders; one with the name of its class is none": (
        ["Bend/anna/1.mov", "Bend/Ben/1.mov", "Wave/anna/1.mov", "Wave/wave/2.mov"],
        {"Bend/anna/1": ("Bend", "anna"), "Bend/Ben/1": ("Bend", "ben"), "Wave/anna/1": ("Wave", "anna"),
         "Wave/wave/2": ("Wave", "")}),
    "groups in other names, of files and of folders": (
        ["Bend/clip_g02_c01.avi", "YoYo/v_YoYo_g06_c01/img/1.jpg"],
        {"Bend/clip_g02_c01": ("Bend", "g2"), "YoYo/v_YoYo_g06_c01/img": ("YoYo", "g6")}),
    "UCF101's names, in any folder or none": (
        ["v_Bend_g01_c01.avi", "UCF/v_Bend_g02_c01.avi", "UCF/2/3/4/v_Wave_g01_c02/frame000001.jpg"],
        {"v_Bend_g01_c01": ("Bend", "g1"), "v_Bend_g02_c01": ("Bend", "g2"),
         "v_Wave_g01_c02": ("Wave", "g1")}),
    "every suffix": ([f"Bend/{s}.{s}" for s in SUFFIXES], {f"Bend/{s}": ("Bend", "") for s in SUFFIXES}),
    "frame folders": (
        ["Bend/anna/frame000001.jpg", "Bend/Ben 2/img_7.PNG", "Wave/anna/1/a1.webp", "v_Wave_g01_c01/1.bmp",
         "Wave/2/x1.tif", "Wave/3/x1.TIFF", "Wave/4/1.jfif", "Wave/5.avi/1.jpg"],
        {"Bend/anna": ("Bend", ""), "Bend/Ben 2": ("Bend", ""), "Wave/anna/1": ("Wave", "anna"),
         "v_Wave_g01_c01": ("Wave", "g1"), **{f"Wave/{n}": ("Wave", "") for n in (2, 3, 4, 5)}}),
    "train and val folders": (
        ["train/Bend/1.mov", "Val/Bend/1.mov", "Val/Bend/anna/2.mov", "train/v_Wave_g01_c01.avi"],
        {"train/Bend/1": ("Bend", ""), "Val/Bend/1": ("Bend", ""), "Val/Bend/anna/2": ("Bend", "anna"),
         "v_Wave_g01_c01": ("Wave", "g1")}),
}


@pytest.mark.parametrize("files, expected", LAYOUTS.values(), ids=LAYOUTS)
def test_videos_are_found_where_they_lie(tmp_path, capsys, files, expected):
    found = find_videos(str(tree(tmp_path, *files)))
    assert {video.name: (video.action, video.source) for video in found} == expected
    assert printed(capsys) == ""


SKIPPED = {
    "other files .txt: 3": ["notes.txt", "Bend/list.txt", "Bend/001/gt/1.txt"],
    "other files .asf: 1": ["Jog/1.asf"],
    "class folders without a video (Jog, Run, a, models): 4": [],
    "videos or frame folders in no class folder: 2": ["film.mp4", "Jump/1.png", "Jump/a/2.mp4"],
    "videos deeper than <Action>/<source>/<video>: 1": ["Bend/anna/monday/1.mov"],
    "images without a number, of another series, or beside videos: 3": ["cover.jpg", "Bend/1.png",
                                                                        "Run/cover.jpg"],
    "folders too deep: 1": ["a/b/c/d/e/1.mov"],
    "files whose frames are in a folder beside: 2": ["Bend/001.mov", "v_a_g1_c1.avi", "v_a_g1_c1/a1.png"],
    "hidden files and folders: 6": [".DS_Store", "Bend/._1.mov", ".trash/2.mov", "__MACOSX/Bend/1.mov",
                                    "Bend/@eaDir/1.mov/thumb1.jpg", "models/first/fig_UCF101_CRNN.png"],
}


def test_what_is_skipped_is_counted_by_reason_in_one_line(tmp_path, capsys):
    tree(tmp_path, "Bend/001/1.jpg", "Bend/2.mov", *(path for paths in SKIPPED.values() for path in paths))
    assert names_of(find_videos(str(tmp_path))) == ["Bend/001", "Bend/2", "Jump/a/2", "v_a_g1_c1"]
    out = printed(capsys)
    assert out.count("Skipped") == 1 and all(reason in out for reason in SKIPPED), out


REFUSED_FOLDERS = {  # files: the message, which also names what is in brackets
    "no video in a class folder": (["film.mp4", "b.jpg"], "holds no video .skipped: .*<Action>/<video>", []),
    "no numbered picture": (["Bend/cover.jpg"], "holds no video .skipped: images without a number", []),
    "nothing": ([], "holds no video .skipped: nothing.*videos.csv", []),
    "two suffixes": (["Bend/1.mov", "Bend/1.mp4"], "the same name", ["1.mov", "1.mp4"]),
    "UCF101's name twice": (["v_dS_g01_c01.avi", "H/v_ds_g01_c01.avi"], "the same name", ["v_dS", "v_ds"]),
    "UCF101's name in train and in test": (
        ["train/v_Bend_g01_c01.avi", "test/v_Bend_g01_c01.avi"], "the same name", ["train", "test"]),
    "frames in a frame folder": (["Kick/1/1.jpg", "Kick/1/flow/1.jpg"], "1 holds frames, .* keep one", []),
}
SIDES = {  # what is refused with the folders and both remedies
    "loose files in validate": ["train/Bend/1.mov", "train/Wave/2.mov", "validate/1.mov", "validate/2.mov"],
    "train alone": ["train/Bend/1.mov", "train/Wave/1.mov"],
    "other folders beside": ["train/Bend/1.mov", "test/Bend/1.mov", "extra/Bend/7.mov"],
    "sides in other words, and a folder beside": ["UCF_train/Bend/1.mov", "UCF_val/Bend/2.mov", "x/y/1.mov"],
    "trainset, testset": ["trainset/Bend/1.mp4", "testset/Bend/1.mp4"],
    "a side among actions": ["Bend/1.mov", "val/3.mov"],
    "loose files in both": ["train/1.mov", "train/2.mov", "test/1.mov"],
}
REFUSED_FOLDERS |= {name: (files, "another --data_path, or a table .*split",
                           {file.split("/")[0] for file in files})
                    for name, files in SIDES.items()}


@pytest.mark.parametrize("files, message, named", REFUSED_FOLDERS.values(), ids=REFUSED_FOLDERS)
def test_a_folder_of_another_form_is_refused_with_what_was_found(tmp_path, files, message, named):
    for split in ("random", "given"):
        with pytest.raises(InputError, match=message) as error:
            load(tree(tmp_path, *files), split=split)
        assert all(name in str(error.value) for name in named)
    with pytest.raises(InputError, match="does not exist.*--data_path"):
        find_videos(str(tmp_path / "nowhere"))


def test_links_are_followed_and_broken_ones_counted(tmp_path, capsys):
    data = tree(tmp_path, "elsewhere/1.mov", "elsewhere/2.mov", "data/Wave/3.mov") / "data"
    try:
        for path, target in (("Bend", tmp_path / "elsewhere"), ("Wave/4.mov", "gone.mov"),
                             ("Wave/all", data)):
            (data / path).symlink_to(target)
    except OSError:  # Windows, without the right to
        pytest.skip("no symbolic links here")
    assert names_of(find_videos(str(data))) == ["Bend/1", "Bend/2", "Wave/3"]
    assert re.search("broken links: [0-9].*deeper than", printed(capsys))


def test_case_blanks_and_the_unicode_form_of_an_action_do_not_matter(tmp_path):
    tree(tmp_path, f"{NFD}/1.mov", f" {NFC.upper()}/2.mov", "wave/3.mov", " Wave/4.mov")
    action_names = load_action_names(str(write(tmp_path / "list.txt", f"{NFC}\nWAVE\n")))
    found = label_videos(find_videos(str(tmp_path)), action_names)
    assert Counter((video.action, video.label) for video in found) == {(NFC, 0): 2, ("WAVE", 1): 2}
    assert len(load(tmp_path).action_names) == 2
    tree(tmp_path / "v", "v_handstandPUSHUPS_g01_c01.avi")
    assert label_videos(find_videos(str(tmp_path / "v")), ACTIONS)[0].action == "HandstandPushups"


def test_any_tree_of_files_is_read_or_refused(tmp_path):
    """What is taken is there, in a folder or with a name of its action; nothing but InputError is raised."""
    rng, read = random.Random(0), 0
    folders = ["Bend", "Wave", "wave", "anna", "1", "v_Wave_g01_c02", "Über", " "]
    files = ["{}.mov", "{}.MP4", "v_Wave_g01_c0{}.avi", "a_g2_c{}.gif", "frame00000{}.jpg", "img_{}.png",
             "c.jpg", "{}.txt", ".x", "new\nline.ts", "caf\udce9.avi"]
    for number in range(150):
        root, tops = tmp_path / str(number), rng.choice([folders[:2], folders, ["train", "val"]])
        for _ in range(rng.randrange(2, 15)):
            above = rng.choices(tops, k=rng.random() < 0.95) + rng.choices(folders, k=rng.choice((0, 1, 3)))
            with contextlib.suppress(OSError):  # the file system may not allow it
                tree(root, "/".join((*above, rng.choice(files).format(rng.randrange(9)))))
        with contextlib.suppress(InputError):
            data = load(root, split="given" if tops[0] == "train" else rng.choice(("random", "group")))
            read += 1
            for video in (*data.train, *data.test):
                assert os.path.exists(video.path) and data.action_names[video.label] == video.action
                assert videos.name_key(video.action) in videos.name_key(video.path), video
    assert 20 < read < 130


# ------------------------------------------------------------------------------ videos in a table

IN_TABLES = ["a/1.mov", "b/2.mp4", "b, c/3 Über.mov", "frames 4/img_1.png", "UCF/v_Wave_g01_c02.avi"]
TABLES = {  # a table of these: {name: (action, source)}
    "in the usual form": (
        ",video,action,x,y\n0,a/1.mov,Bend\n\n1,b/2.mp4,Wave\n", {"a/1": ("Bend", ""), "b/2": ("Wave", "")}),
    "in Hugging Face's": ("file_name,label\na/1.mov,Bend\n", {"a/1": ("Bend", "")}),
    "with semicolons": ("action ; video\nBend ; a/1.mov\nBend;b, c/3 Über.mov \n",
                        {"a/1": ("Bend", ""), "b, c/3 Über": ("Bend", "")}),
    "with tabs": ("video\taction\tsource\na/1.mov\tBend\tAnna\n", {"a/1": ("Bend", "anna")}),
    "as Windows writes it": (b"\xef\xbb\xbfVideo,Action\r\na/1.mov,Bend\r\n", {"a/1": ("Bend", "")}),
    "with blanks and commas in paths, of a folder of frames": (
        'video, action\n"b, c/3 Über.mov", To bend\nframes 4, Wave \n',
        {"b, c/3 Über": ("To bend", ""), "frames 4": ("Wave", "")}),
    "with actions that look like numbers or nothing": (
        "video,action\na/1.mov,001\nb/2.mp4,None\nframes 4,NA\n",
        {"a/1": ("001", ""), "b/2": ("None", ""), "frames 4": ("NA", "")}),
    "with sources, UCF101's where the column is empty": (
        "video,action,source\na/1.mov,Bend,Anna\nUCF/v_Wave_g01_c02.avi,Wave,\n",
        {"a/1": ("Bend", "anna"), "v_Wave_g01_c02": ("Wave", "g1")}),
    "with parts of recordings, which are their sources": (
        "video,start,end,action,source\na/1.mov,0.50,2,Bend,\n./a/1.mov,1:02.5,,Wave,\na/1.mov,,,Jump,\n"
        "frames 4,,,Bend,\nb/2.mp4,,00:01:00.1,Bend,Anna\nUCF/v_Wave_g01_c02.avi,80000,80001,Wave,\n",
        {"a/1@0.5-2": ("Bend", "a/1"), "a/1@62.5-": ("Wave", "a/1"), "a/1": ("Jump", "a/1"),
         "frames 4": ("Bend", "frames 4"), "b/2@0-60.1": ("Bend", "anna"),
         "v_Wave_g01_c02@80000-80001": ("Wave", "g1")}),
    "of Windows, with paths of the home folder": (
        "video,action\nb\\2.mp4,Wave\n~/a/1.mov,Bend\n", {"b/2": ("Wave", ""), "/me/a/1": ("Bend", "")}),
    "with decimal commas": ("video;start;end;action\na/1.mov;12,5;1:00,25;Bend\n",
                            {"a/1@12.5-60.25": ("Bend", "a/1")}),
}


@pytest.mark.parametrize("content, expected", TABLES.values(), ids=TABLES)
def test_a_table_names_videos_and_their_actions(tmp_path, capsys, monkeypatch, content, expected):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "me"))
    table = write(tree(tmp_path, *IN_TABLES, "me/a/1.mov") / "videos.csv", content)
    found = find_videos(str(table))
    assert {video.name.replace(tmp_path.as_posix(), ""): (video.action, video.source)
            for video in found} == expected
    assert all(os.path.exists(video.path) for video in found)
    out = printed(capsys)
    assert "Skipped" not in out and ("not used: x, y" in out) == ("x,y" in str(content))


BAD_TABLES = {
    "missing files": ("video,action\na/1.mov,Bend\n\n" + "no.mov,Bend\n" * 4,
                      "4 of 5 files .* line 4: no.mov, line 5: no.mov, line 6: no.mov, ..."),
    "no video": ("video,action\n,Bend\n", "line 2: the column video is empty"),
    "no action": ("video,action\na/1.mov,Bend\nb/2.mp4\n", "line 3: the column action is empty"),
    "a video twice": ("video,action\na/1.mov,Bend\na/../a/1.mov,Wave\n", "line 3: a/../a/1.mov is also in "
                      "line 2 .*: a video, .* has one row and one action"),
    "a part twice": ("video,action,start\na/1.mov,A,1\na/1.mov,B,0:01.0\n", "line 3: .* is also in line 2"),
    "times of frames": ("video,action,start\nframes 4,Bend,1\n", "line 2: frames 4 .* have no seconds"),
    **{times: (f"video,action,start,end\na/1.mov,Bend,{times}\n", "line 2: start .* must be times")
       for times in ("abc,", "-1,2", "nan,", ",inf", "2,2", "3,2.5", "0:0:0:1,", ",0", '"1,5",')},
    "its frames, too": ("video,action\nb/2,Wave\nb/2.mp4,Bend\n", "line 3: b/2.mp4 is also in line 2"),
    "zeros": ("video,action\na/1.mov\0,Bend\n~\0,Bend\n", "2 of 2 files cannot"),
    "an unknown split": ("video,action,split\na/1.mov,Bend,train\nb/2.mp4,Bend,dev\n", "line 3: .*'dev'"),
    "no split": ("video,action,split\na/1.mov,Bend,train\nb/2.mp4,Bend,\n", "line 3: .*'', not train or"),
    "missing columns": ("path,action\na/1.mov,Bend\n", "line 1 must name .* it has path, action"),
    "a column twice": ("video,Action,action\na/1.mov,Bend,7\n", "line 1 must name .* each once"),
    "a line with more columns": ("video,action\na/1.mov,Bend\nb, c/3 Über.mov,Bend\n", "line 3.*quotes"),
    "nothing": ("", "separator"),
    "no line": ("video,action\n", "holds no video"),
    "other letters": (b"video,action\ncaf\xe9.mov,Bend\n", "is not UTF-8 text"),
}


@pytest.mark.parametrize("content, message", BAD_TABLES.values(), ids=BAD_TABLES)
def test_an_error_in_a_table_names_the_line(tmp_path, content, message):
    tree(tmp_path, *IN_TABLES, "b/2/1.png")
    table = write(tmp_path / "videos.csv", content)
    with pytest.raises(InputError, match=f"videos.csv.*{message}"):
        find_videos(str(table))


def test_parts_of_recordings_are_split_by_recording_or_by_a_list(tmp_path, capsys):
    days = [f"day{n}.mp4" for n in range(1, 5)]
    rows = [f"{day},{start},{start + 2.5},{action}" for day in days for start, action in enumerate("ABA")]
    table = write(tree(tmp_path, *days) / "t.csv", "\n".join(["video,start,end,action", *rows]))
    data = load(table, split="group")
    assert len(all_of(data.train, "path")) == 3 and len(all_of(data.test, "path")) == 1
    assert re.search(r"sources: 3 in training, 1 in the test \(day[1-4]\), 0 in both", printed(capsys))
    assert {(video.start, video.end) for video in data.test} == {(0, 2.5), (1, 3.5), (2, 4.5)}
    data = load(table, split=str(write(tmp_path / "list.txt", "/x/day2.mp4\nday3@1-3.5")))
    assert names_of(data.test) == data.record["test_videos"] == [
        "day2@0-2.5", "day2@1-3.5", "day2@2-4.5", "day3@1-3.5"]


# ------------------------------------------------------------------------------ action lists

LISTS = {
    "a pickled list": pickle.dumps(ACTIONS), "a text file": b"Biking\nHandstandPushups\nPunch",
    "... as Windows writes it": b"\xef\xbb\xbfBiking\r\n\r\n HandstandPushups \r\nPunch\r\n",
    "UCF101's classInd.txt": b"1 Biking\n2 HandstandPushups\n3 Punch\n"}


@pytest.mark.parametrize("content", LISTS.values(), ids=LISTS)
def test_an_action_list_is_pickled_or_text(tmp_path, content):
    assert load_action_names(str(write(tmp_path / "actions", content))) == ACTIONS
    assert len(UCF101) == len(set(UCF101)) == 101 and {"ApplyEyeMakeup", *ACTIONS, "YoYo"} <= set(UCF101)


def test_without_a_fitting_list_the_actions_found_are_taken_and_said(tmp_path, capsys):
    tree(tmp_path, *(f"{action}/{n}.mov" for action in ("Wave", "Bend") for n in range(4)))
    assert load(tmp_path, action_name_path=LIST).action_names == ["Bend", "Wave"]
    out = printed(capsys)
    assert "none of them is in UCF101's list" in out and "8 videos of 2 actions" in out
    assert load(tmp_path, action_name_path="none").action_names == ["Bend", "Wave"]
    assert "UCF101's" not in printed(capsys)
    tree(tmp_path / "two", *(f"{action}/{n}.mov" for action in ("Punch", "YoYo") for n in range(4)))
    data = load(tmp_path / "two", action_name_path=LIST)  # those listed but not there keep their class
    assert all_of(data.train, "label") == {UCF101.index("Punch"), UCF101.index("YoYo")}
    out = printed(capsys)
    assert "8 videos of 2 of the 101 actions listed" in out and "YoYo; no video of ApplyEyeMakeup, " in out


def test_a_list_that_only_some_actions_fit_is_refused_with_both_ways(tmp_path):
    tree(tmp_path, "data/Wave/1.mov", "data/Bend/2.mov", "data/Punch/3.mov", "other/Wave/1.mov")
    own, none = write(tmp_path / "own.txt", "Wave\nJump\n"), write(tmp_path / "none.txt", "Jump\n")
    for data, path, unknown in (("data", LIST, "Bend, Wave"), ("data", own, "Bend, Punch"),
                                ("other", none, "Wave")):
        with pytest.raises(InputError, match=f"actions: {unknown}. --action_name_path .* none .* a list"):
            load(tmp_path / data, action_name_path=str(path))


def test_a_bad_action_list_is_refused_and_runs_nothing(tmp_path):
    path, trace = tmp_path / "actions.pkl", tmp_path / "trace"
    for content in (Payload(trace), ["Punch", Payload(trace)], {"Punch": 1}, "Punch", [], ["Punch", 1],
                    ("Punch",), [np.str_("Punch")], ["Punch", "PUNCH"]):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(InputError, match="actions.pkl"):
            load_action_names(str(path))
    assert not trace.exists()
    for content, message in ((b"", "neither a pickled list of str nor a text file with one name per line"),
                             (b"\n \n", "neither a pickled list"), (b"caf\xe9\n", "is not UTF-8 text"),
                             (b"Punch\npunch \n", "names an action twice")):
        with pytest.raises(InputError, match=f"actions.txt.*{message}"):
            load_action_names(str(write(tmp_path / "actions.txt", content)))
    with pytest.raises(InputError, match="none.pkl: No such file"):
        load_action_names(str(tmp_path / "none.pkl"))


# ------------------------------------------------------------------------------ splits


def labelled(counts: dict, action_names: list[str] | None = None) -> list[Video]:
    """Labelled videos as UCF101 names them, by {(action, group): how many}."""
    found = [Video(f"v_{action}_g{group:02d}_c{clip:02d}", f"{action} {group} {clip}", action, f"g{group}")
             for (action, group), count in counts.items() for clip in range(1, count + 1)]
    return label_videos(sorted(found), action_names or sorted({action for action, _ in counts}))


@pytest.fixture(scope="module")
def ucf101() -> list[Video]:
    """13,320 videos of 101 actions x 25 groups, as in UCF101."""
    counts = Counter(random.Random(0).sample([(a, g) for a in UCF101 for g in range(1, 26)] * 6, 13_320))
    return labelled(counts, sorted(UCF101))


def test_random_split_is_the_tutorials_and_group_split_holds_out_sources_of_every_action(ucf101):
    train, test = split_videos(ucf101, "random", 42)
    assert (len(train), len(test)) == (9_990, 3_330) and not set(train) & set(test)
    assert set(names_of(test)) == set(train_test_split(names_of(ucf101), test_size=0.25, random_state=42)[1])
    train, test = split_videos(ucf101, "group", 42)
    assert len(train) + len(test) == len(ucf101) and not all_of(train, "source") & all_of(test, "source")
    whole, held_out = (Counter(video.action for video in part) for part in (ucf101, test))
    assert all(0.15 < held_out[action] / whole[action] < 0.35 for action in UCF101)
    for split, seed, same in (("random", 42, True), ("random", 43, False), ("group", 43, False)):
        assert (split_videos(ucf101, split, seed)[1] == split_videos(ucf101, split, 42)[1]) == same


FEW_SOURCES = {
    "groups numbered on: 1-2, 3-4, 5-6": {(a, 2 * n + g): 3 for n, a in enumerate("ABC") for g in (1, 2)},
    "four groups per action, numbered on": {(a, 4 * n + g): 2 for n, a in enumerate("ABC") for g in range(4)},
    "groups of other sizes": {(a, g): 1 + 3 * (g == 1) for a in "AB" for g in range(1, 6)},
    "two groups beside ten": {("A", 1): 2, ("A", 2): 2} | {(a, g): 4 for a in "BC" for g in range(3, 13)},
}


@pytest.mark.parametrize("counts", FEW_SOURCES.values(), ids=FEW_SOURCES)
def test_group_split_leaves_no_action_without_training_or_test_video(counts):
    found = labelled(counts)
    for seed in range(31):
        train, test = split_videos(found, "group", seed)
        assert all_of(train, "action") == all_of(test, "action") == all_of(found, "action"), seed
        assert not all_of(train, "source") & all_of(test, "source"), seed


def test_a_source_is_one_whatever_the_action_but_ucf101_numbers_its_groups_anew_in_each():
    own = ["Biking/clip_g01_c01", "Punch/clip_g01_c01", "Biking/anna/1", "Punch/v_Punch_g01_c01/img"]
    found = [Video(name, name, name.split("/")[0], "g1" if "_g" in name else "anna") for name in own]
    assert all_of(label_videos(found, sorted(UCF101)), "source") == {"g1", "anna", "Punch g1"}


@pytest.mark.parametrize("split, first", {"official1": 1, "official2": 8, "official3": 15}.items())
def test_official_splits(ucf101, split, first):
    train, test = ({int(re.search("_g([0-9]+)_", name)[1]) for name in names_of(side)}
                   for side in split_videos(ucf101, split, 42))
    assert test == set(range(first, first + 7)) and train == set(range(1, 26)) - test
    garden = [ucf101[0]._replace(source=f"{ucf101[0].action} garden"), *ucf101[1:]]  # the source of a table
    for others in (labelled({(a, g): 1 for a in "AB" for g in range(1, 26)}), garden):
        with pytest.raises(InputError, match=f"--split {split} is for UCF101"):
            split_videos(others, split, 42)


@pytest.mark.parametrize("train, test, unused", [
    ("TRAIN", "Validation", ""), ("training", "val", "eval"), ("train", "test", "val")])
def test_the_given_split_of_folders_or_a_column_is_taken_and_no_other(tmp_path, capsys, train, test, unused):
    lines = [f"{side}/{action}/1.mov,{action},{side}" for side in (train, test, unused) if side
             for action in ("Bend", "Wave")]
    tree(tmp_path, *(line.split(",")[0] for line in lines), "annotations/list.txt")
    table = write(tmp_path / "videos.csv", "\n".join(["video,action,split", *lines]))
    for data_path, split in ((tmp_path, "given"), (tmp_path, "folders"), (table, "given")):
        data = load(data_path, split=split)
        assert names_of(data.train) == [f"{train}/Bend/1", f"{train}/Wave/1"]
        assert names_of(data.test) == [f"{test}/Bend/1", f"{test}/Wave/1"]
        assert (f"videos in {unused} (the test side is {test}): 2" in printed(capsys)) == bool(unused)
        for other in ("random", "group", "official1", str(tmp_path / "annotations" / "list.txt")):
            with pytest.raises(InputError, match="have their own split; use --split given"):
                load(data_path, split=other)
        capsys.readouterr()


def test_a_test_folder_without_class_folders_does_not_count(tmp_path, capsys):  # as of Kinetics
    data = load(tree(tmp_path, "train/Bend/1.mov", "val/Bend/1.mov", "test/1.mov"), split="given")
    assert names_of(data.train) == ["train/Bend/1"] and names_of(data.test) == ["val/Bend/1"]
    assert "in no class folder: 1" in printed(capsys)


OWN = ["Bend/anna.mov", "Bend/anna 1.mov", "Bend/2.mov", "Bend/a, b.mov", "Bend/3.mov", "Wave/2.mov",
       "Bend/3.mov clip.avi", f"Wave/{NFC}.mov", "Wave/carla.mov", "v_Wave_g01_c02.avi",
       "Wave/v_Wave_g01_c02 copy.avi"]
TEST_LISTS = {  # of these videos: those that are found, and how many names are not
    "v_Wave_g01_c02": (["v_Wave_g01_c02"], 0), "Wave/v_Wave_g01_c02.avi\n\n": (["v_Wave_g01_c02"], 0),
    "V_WAVE_g01_c02.AVI 7": (["v_Wave_g01_c02"], 0), "Bend\\3.mov": (["Bend/3"], 0),
    "  ./bend/3.MOV  ": (["Bend/3"], 0),
    "/media/my videos/Bend/3.mov\n/media/Run/3.mov": (["Bend/3"], 1), "my_videos/Bend/3 0": (["Bend/3"], 0),
    "3\nBend/3\nBend/3.mov": (["Bend/3"], 0), "anna 1": (["Bend/anna 1"], 0),
    "Bend/anna 1.mov 12": (["Bend/anna 1"], 0), "Bend/a, b.mov": (["Bend/a, b"], 0),
    "Bend/a, b,1": (["Bend/a, b"], 0), "Wave/2.mov\t2": (["Wave/2"], 0),
    f"Wave/{NFD}.mov": ([f"Wave/{NFC}"], 0),
    "\ufeffBend/anna 163\r\nWave/carla 57\r\n": (["Bend/anna", "Wave/carla"], 0),
    "Bend/anna 163\nWave/carla": (["Wave/carla"], 1),  # a column on all lines or on none
    "Wave/carla 5\nBend/anna 5 7": (["Wave/carla"], 1),
    "Bend/anna 1\nBend/anna 2.mp4\nBend/ann\nBend/anna, b.mov\nv_Wave_g01_c02.x": (["Bend/anna 1"], 4),
    "v_Wave_g01_c02 copy\nBend/3.mov clip.avi": (["Bend/3.mov clip", "Wave/v_Wave_g01_c02 copy"], 0),
}


@pytest.mark.parametrize("content, expected", TEST_LISTS.items(), ids=map(ascii, TEST_LISTS))
def test_a_list_names_the_test_videos_with_or_without_folder_and_suffix(tmp_path, capsys, content, expected):
    names, lost = expected
    tree(tmp_path / "data", *OWN)
    data = load(tmp_path / "data", split=str(write(tmp_path / "testlist01.txt", content)))
    assert names_of(data.test) == names and len(data.train) == len(OWN) - len(names)
    assert (f"{lost} names of the list are not among the videos: " in printed(capsys)) == bool(lost)


NO_SPLIT = ["Bend/1.mov", "Wave/2.mov"]
REFUSED_SPLITS = {  # --split, or the content of a list; the videos; the message
    "group": ("group", NO_SPLIT, "<Action>/<source>/<video>.*column source.*--split random"),
    "given": ("given", NO_SPLIT, "no split of their own .*folders train and test.*--split group"),
    "other actions": ("folders", ["train/Bend/1.mov", "train/Bend/2.mov", "test/Wave/1.mov"],
                      "2 of the 3 videos in training and 1 .* no action is in both: name train and"),
    "one video": ("random", ["Bend/1.mov"], "1 of the 1 videos in training .* or more videos"),
    "nowhere": ("nowhere.txt", NO_SPLIT, "neither a file nor one of random, group"),
    "ambiguous": (b"2.mov\n", OWN, r"2\.mov can be .*Bend.2\.mov or .*Wave.2\.mov: add its folder"),
    "not UTF-8": (b"caf\xe9.mov\n", OWN, "is not UTF-8 text"),
    "nothing there": (b"Bend/99\n", OWN, "names none of the videos: write them as Bend/2"),
    "in quotes": (b'"Bend/2.mov","Bend"\n', OWN, "names none of the videos: write them as Bend/2"),
    "all": ("\n".join(OWN).encode(), OWN, "puts 0 of the 11 .* 11 in the test.*: list the test videos only"),
    "empty": (b"", OWN, "names none of the videos"),
}


@pytest.mark.parametrize("split, files, message", REFUSED_SPLITS.values(), ids=REFUSED_SPLITS)
def test_a_split_that_cannot_be_made_is_refused_with_the_remedy(tmp_path, split, files, message):
    split = split if isinstance(split, str) else str(write(tmp_path / "list.txt", split))
    with pytest.raises(InputError, match=message):
        load(tree(tmp_path / "data", *files), split=split)


# ------------------------------------------------------------------------------ what the start prints


def test_the_start_says_how_many_videos_each_side_has_and_what_one_counts(tmp_path, capsys):
    tree(tmp_path, *(f"train/Bend/{n}.mov" for n in range(5)), *(f"train/Wave/{n}.mov" for n in range(2)),
         "train/Jump/1.mov", "test/Bend/1.mov", "test/Bend/frames/1.jpg", "test/Wave/2.mov", "test/Run/3.mov")
    load(tmp_path, split="given")
    out = printed(capsys)
    for line in ("12 videos of 4 actions, frames 1 to 28", "Actions Bend, Jump, Run, Wave",
                 "Split given: 8 videos for training, 4 for the test",
                 "training: 0 (Run) to 5 (Bend) videos per action", "test: 0 (Jump) to 2 (Bend) videos",
                 "No training video: Run", "No test video: Jump",
                 "chance level: 50.0%; each test video counts 25.00%",  # two of four are Bend
                 "The source of 12 of 12 videos is unknown"):
        assert line in out
    load(tree(tmp_path / "one", *(f"Bend/{n}.mov" for n in range(4))))
    assert re.search("All videos show one action, Bend.*chance level: 100.0%", printed(capsys))


def test_the_start_says_how_many_test_videos_share_a_source_with_training(tmp_path, capsys):
    everyone = [f"{action}/person {n}/1.mov" for action in ("Bend", "Jump", "Run", "Wave") for n in range(9)]
    load(tree(tmp_path / "nine", *everyone))
    out = printed(capsys)
    assert "9 of the 9 test videos (100.0%) have a source that is also in" in out and "--split group" in out
    load(tmp_path / "nine", split="group", clips=3)
    out = printed(capsys)
    assert "also in training" not in out and "unknown" not in out and "No test video" not in out
    assert "36 videos of 4 actions, frames 1 to 28, 3 clips per video" in out
    assert "chance level: 25.0%; each test video counts 12.50%" in out
    load(tree(tmp_path / "mixed", "train/Bend/anna/1.mov", "train/Wave/2.mov", "test/Bend/ben/3.mov",
              "test/Wave/Anna/4.mov", "test/Wave/5.mov", "test/Bend/x_g01_c01.mov"), split="given")
    out = printed(capsys)
    assert "1 of the 4 test videos (25.0%) have a source" in out and "--split group" not in out
    assert "The source of 2 of 6 videos is unknown" in out


def test_the_start_names_files_that_are_there_twice(tmp_path, capsys):
    tree(tmp_path, "train/Bend/1/1.jpg", "test/Wave/1/1.jpg")  # folders have no bytes
    for path, content in (("train/Bend/a", "AA"), ("test/Bend/a (1)", "AA"), ("train/Wave/same", "AA"),
                          ("test/Wave/size", "BB"), ("train/Wave/c", "C"), ("train/Wave/c (1)", "C")):
        write(tree(tmp_path, f"{path}.avi") / f"{path}.avi", content)
    load(tmp_path, split="given")
    out = printed(capsys)
    assert "1 of the 3 test videos are the same file as a training video (train/Bend/a and test/Bend/a" in out
    assert "under two actions: train/Bend/a and train/Wave/same. Each" in out


REMARKS = "differ only in their digits: are they the actions?", "Bend;Wave: taken for an action of its own"


def test_the_start_remarks_names_that_are_hardly_actions(tmp_path, capsys):
    for names, remark in ((["fold1", "fold2"], REMARKS[0]), (["Wave1", "Bend2"], ""), (["7"], ""),
                          (["Wave", "Bend;Wave"], REMARKS[1]), (["Jump", "Bend;Wave"], "")):
        load(tree(tmp_path / "-".join(names), *(f"{name}/1/{n}.mov" for name in names for n in range(4))))
        out = printed(capsys)
        assert [text in out for text in REMARKS] == [text == remark for text in REMARKS]


def test_the_frame_rate_is_the_most_common_of_training_if_it_makes_sense(tmp_path, capsys):
    images = make_images(0, count=3, height=16, width=16)
    write_frames(tmp_path / "Bend" / "frames", images)
    for name, rate in (("a", 50), ("b", 50), ("c", 25), ("d", 50), ("e", 25), ("f", 50), ("g", 50)):
        write_video(tmp_path / "Bend" / f"{name}.mp4", images, rate=rate)
    assert load(tmp_path).frame_rate == 50
    assert re.search(r"Rate [12] of [56] training files checked .* usual 50 frames", printed(capsys))
    times = [0, 40, 80]  # milliseconds; the header says 1,000 frames per second
    assert frames.frame_rate(str(write_video(tmp_path / "1000.mkv", images, rate=1000, times=times))) == 25
    assert frames.frame_rate(str(tmp_path / "Bend" / "frames")) is None
    assert frames.frame_rate(str(write(tmp_path / "broken.avi", b"RIFF" * 100))) is None
    (tmp_path / "phones" / "Bend").mkdir(parents=True)
    for rate in (15, 15.001, 29.5, 29.6, 29.7, 29.8, 29.9, 30):  # as phones write them
        write_video(tmp_path / "phones" / "Bend" / f"{rate}.mkv", images, rate=Fraction(str(rate)))
    assert load(tmp_path / "phones").frame_rate > 29
