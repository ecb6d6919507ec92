"""check_model_prediction.py: the list, any video of any length, any weights."""
import argparse
import codecs
import itertools
import math
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from PIL import Image

import check_model_prediction
import UCF101_3DCNN
from conftest import (
    ACTIONS,
    MODULES,
    REPO,
    SCRIPTS,
    assert_refused,
    damage,
    load,
    make_images,
    predict,
    run,
    train,
    write_frames,
    write_video,
)
from videos import Video


def predict_table(folder: Path, *words) -> tuple[pd.DataFrame, str]:
    """Predict with --csv. Returns (its table, what was printed)."""
    out = predict(*words, "--csv", folder / "table.csv").stdout
    return pd.read_csv(folder / "table.csv"), out


def predict_list(folder: Path, *words) -> tuple[pd.DataFrame, str]:
    """Predict a list. Returns (it, by filename, what was printed)."""
    out = predict(*words, "--output", folder / "list.pkl").stdout
    return pd.read_pickle(folder / "list.pkl").set_index("filename"), out


def count_sides(table: pd.DataFrame) -> dict[str, int]:
    return table["split"].value_counts().to_dict()


def mean_of(table: pd.DataFrame) -> pd.Series:
    return table.groupby("action")["probability"].mean()


# ------------------------------------------------------------------------------ a list of all videos


@pytest.mark.parametrize("model", list(SCRIPTS))
def test_the_best_epoch_predicts_every_video_of_the_training(model, trained, small_data, tmp_path):
    out = predict("--save_model_path", trained(model), "--output", tmp_path / "list.pkl").stdout
    table = pd.read_pickle(tmp_path / "list.pkl")
    assert list(table) == ["filename", "y", "y_pred", "confidence", "split"]
    assert sorted(table["filename"]) == sorted(path.name for path in (small_data / "jpegs").iterdir())
    assert (table["filename"].str.split("_").str[1] == table["y"]).all()
    assert set(table["y_pred"]) <= set(ACTIONS)
    assert table["confidence"].between(1 / 3 - 1e-6, 1).all()
    scores, losses = (np.load(trained(model) / f"epoch_test_{key}.npy") for key in ("score", "loss"))
    best = min(range(2), key=lambda e: (-scores[e], losses[e]))
    assert f"{model}_epoch{best + 1}.pth" in out
    checkpoint = load(trained(model) / f"{model}_epoch{best + 1}.pth")
    for side in ("train", "test"):
        names = table.loc[table["split"] == side, "filename"]
        assert sorted(names) == sorted(checkpoint[f"{side}_videos"])
    test = table[table["split"] == "test"]
    accuracy = (test["y"] == test["y_pred"]).mean()
    assert accuracy == pytest.approx(scores[best])
    assert re.search(rf"^Accuracy train .*\nAccuracy test +{accuracy:.1%} +[0-6] of 6 videos\n"
                     r" +\(the test videos chose this epoch", out, re.M)


def test_the_code_in_the_folder_of_the_model_predicts(trained, small_data, tmp_path):
    """A learner edits a copy of functions.py, here with an import of what other copies do not have."""
    for folder in ("Conv3D", "CRNN"):
        shutil.copytree(REPO / folder, tmp_path / folder, ignore=shutil.ignore_patterns("model_ckpt*"))
    path, script = tmp_path / "CRNN" / "functions.py", tmp_path / "CRNN" / "UCF101_CRNN.py"
    path.write_text(path.read_text().replace("return self.fc2(X)", "return 0 * self.fc2(X)") + "NEW = 1\n")
    script.write_text(script.read_text().replace("from functions import (", "from functions import (  NEW,"))
    shutil.copy(REPO / "check_model_prediction.py", tmp_path)
    words = ["--save_model_path", trained("CRNN"), "--video", small_data / "jpegs" / "v_Punch_g03_c01"]
    out = run(sys.executable, tmp_path / "check_model_prediction.py", *words).stdout
    assert out.count(" 33.3%") == 3 and predict(*words).stdout.count(" 33.3%") < 3


def test_videos_that_came_after_the_training_are_new(trained, small_data, tmp_path):
    for path in (small_data / "jpegs").iterdir():  # UCF101 itself writes this action in two ways
        shutil.copytree(path, tmp_path / "data" / path.name.replace("Pushups", "PushUps"))
    write_frames(tmp_path / "data" / "v_Punch_g99_c01", make_images(3))
    words = ["--save_model_path", trained("Conv3D"), "--data_path", tmp_path / "data"]
    table, out = predict_list(tmp_path, *words)
    assert count_sides(table) == {"train": 18, "test": 6, "new": 1}
    assert table.loc["v_Punch_g99_c01", "split"] == "new"
    assert re.search(r"^Accuracy new +[0-9.]+% +[01] of 1 videos", out, re.M)
    assert "Split   by name for 24 of 25 videos" in out  # as it is another folder


def test_a_list_knows_the_videos_of_the_training(tmp_path):
    """By absolute or ../ paths, in a folder below or above, where a link leads; also a copy, and a part.

    Others of equal names are new.
    """
    for number, parts in enumerate(itertools.product(("train", "test"), ("Bend", "Wave"), "1234")):
        write_video(tmp_path.joinpath("all", *parts).with_suffix(".mp4"), make_images(number))
    rows = [f"{start}/all/train/{action}/{n}.mp4,{action},{'test' if n == 4 else 'train'}"
            for action, start in (("Bend", tmp_path), ("Wave", "..")) for n in (1, 2, 3, 4)]
    tables = {"train": ["video,action,split", *rows],
              "parts": ["video,start,action", "../all/train/Wave/3.mp4,0.1,Wave",
                        "../all/train/Wave/4.mp4,,Wave"],
              "unknown": ["video,action", "../all/test/Bend/1.mp4,Surf"]}
    (tmp_path / "lists").mkdir()
    for name, lines in tables.items():
        (tmp_path / "lists" / f"{name}.csv").write_text("\n".join(lines))
    train("Conv3D", tmp_path, tmp_path / "out", "--action_name_path", "none", "--epochs", "1",
          "--data_path", tmp_path / "lists" / "train.csv", "--split", "given")
    assert load(tmp_path / "out" / "Conv3D_epoch1.pth")["frame_rate"] == 25
    (tmp_path / "linked").symlink_to(tmp_path / "all" / "train")
    for name in ("all", "lists"):
        shutil.copytree(tmp_path / name, tmp_path / "copy" / name)
    write_video(tmp_path / "copy" / "all" / "train" / "Wave" / "1.mp4", make_images(20, count=14))
    trained, words = {"train": 6, "test": 2}, ["--save_model_path", tmp_path / "out", "--data_path"]
    for data, sides in (("lists/train.csv", trained), ("all/train", trained), ("linked", trained),
                        ("all", trained | {"new": 8}), ("all/test", {"new": 8}),
                        ("lists/parts.csv", {"train": 1, "test": 1}),
                        ("copy/lists/parts.csv", {"train": 1, "test": 1}),
                        ("copy/lists/train.csv", {"train": 5, "test": 2, "new": 1})):
        table, out = predict_list(tmp_path, *words, tmp_path / data)
        assert count_sides(table) == sides, data
        by_name = {"copy/lists/train.csv": ["3"], "copy/lists/parts.csv": ["2"]}
        assert re.findall("by name for (.) of", out) == by_name.get(data, [])
        assert {name[-1] for name in table.index[table["split"] == "test"]} <= {"4"}
        for side, count in sides.items():
            assert re.search(rf"^Accuracy {side} .* of {count} videos", out, re.M)
    done = predict(*words, tmp_path / "lists" / "unknown.csv", "--output", tmp_path / "list.pkl", check=False)
    assert_refused(done, "unknown actions: Surf", "not trained on", "--data_path", "--video")


def test_a_list_uses_kept_clips_and_writes_none(trained, small_data, tmp_path, monkeypatch):
    shutil.copytree(trained("CRNN"), tmp_path / "out")
    words = ["--save_model_path", tmp_path / "out", "--output", tmp_path / "list.pkl"]
    [kept] = (tmp_path / "out").glob("clips_*")
    files = sorted(kept.iterdir())
    monkeypatch.setattr("frames.read_frames", None)  # nothing is read
    predict(*words)
    table = pd.read_pickle(tmp_path / "list.pkl")
    monkeypatch.undo()
    files.pop().unlink()
    predict(*words)
    pd.testing.assert_frame_equal(table, pd.read_pickle(tmp_path / "list.pkl"))
    assert sorted(kept.iterdir()) == files


def test_a_damaged_best_epoch_gives_way_to_the_next(trained, small_data, tmp_path):
    for path in trained("CRNN").glob("CRNN_epoch*.pth"):
        shutil.copy(path, tmp_path)
    words = ["--save_model_path", tmp_path, "--video", small_data / "jpegs" / "v_Punch_g03_c01"]
    best = re.search(r"Weights .*(CRNN_epoch\d.pth)", predict(*words).stdout)[1]
    damage(tmp_path / best)
    out = predict(*words).stdout
    other = re.search(r"Weights .*(CRNN_epoch\d.pth)", out)[1]
    assert f"{best} is damaged" in out and other != best
    damage(tmp_path / other)
    assert_refused(predict(*words, check=False), "no checkpoint in", "can be read")


# ------------------------------------------------------------------------------ any video


def test_top_five_of_files_frame_folders_and_folders_of_videos(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.avi", make_images(0, count=30, height=64, width=48))
    (tmp_path / "a.avi").rename("take:2.avi")  # looks like a protocol
    write_frames(tmp_path / "day" / "frames", make_images(1, height=50, width=90))
    for name in ("day/a.mp4", "day/evening/b.mp4", "day/1/2/3/4/5/too deep.mp4"):
        write_video(tmp_path / name, make_images(2))
    Image.fromarray(make_images(3, count=1)[0]).save(tmp_path / "day" / "cover.png")
    out = run(sys.executable, REPO / "check_model_prediction.py", "--checkpoint",
              trained("CRNN") / "CRNN_epoch2.pth", "--csv", "a.csv", "--video", "take:2.avi", "day").stdout
    paths = ["take:2.avi", "day/a.mp4", "day/evening/b.mp4", "day/frames"]
    assert [Path(path).as_posix() for path in re.findall(r"^(\S+\.\w+|\S+frames)$", out, re.M)] == paths
    reasons = " ".join(re.search(r"^Skipped ([^/]+),\s+in\s+day", out, re.M)[1].split())
    assert reasons == "images without a number, of another series, or beside videos: 1, folders too deep: 1"
    for action in ACTIONS:
        assert len(re.findall(rf"^  {action} +[0-9.]+%  #*$", out, re.M)) == 4
    table = pd.read_csv("a.csv")
    assert list(table) == ["video", "start", "end", "action", "probability"]
    assert len(table) == 4 * len(ACTIONS)
    assert [Path(path).as_posix() for path in table["video"].unique()] == paths
    np.testing.assert_allclose(table.groupby("video")["probability"].sum(), 1, rtol=1e-5)


def test_with_clips_it_says_what_happens_when(trained, tmp_path):
    """A model that was trained on the first frames is asked over the whole video."""
    write_video(tmp_path / "long.mp4", make_images(2, count=60), rate=10)
    words = ["--save_model_path", trained("Conv3D"), "--video", tmp_path / "long.mp4"]
    table, out = predict_table(tmp_path, *words, "--clips", "6")
    assert "the mean of 6 clips" in out and "to see more" not in out
    assert len(table) == 6 * len(ACTIONS)
    clips = table.drop_duplicates("start")
    np.testing.assert_allclose(clips["start"], [0, 1, 2, 3, 4, 5], atol=0.01)  # 60 frames, clips of 10
    np.testing.assert_allclose(clips["end"], clips["start"] + 0.9, atol=0.01)
    np.testing.assert_allclose(table.groupby("start")["probability"].sum(), 1, rtol=1e-5)
    mean = mean_of(table).sort_values(ascending=False)
    shown = re.findall(r"^  (\w+) +([0-9.]+)%", out, re.M)
    assert [action for action, _ in shown] == list(mean.index)
    np.testing.assert_allclose([float(percent) for _, percent in shown], 100 * mean, atol=0.06)
    lines = re.findall(r"^ +([0-9.]+) to +([0-9.]+)  (\w+) +([0-9.]+)%$", out, re.M)
    assert len(lines) == 6
    for (start, end, action, percent), row in zip(lines, clips.itertuples(), strict=True):
        assert (float(start), float(end), action) == pytest.approx((row.start, row.end, row.action), abs=0.06)
        assert float(percent) == pytest.approx(100 * row.probability, abs=0.06)
    first, out = predict_table(tmp_path, *words)
    assert "(from seconds 0.0 to 0.9 of 5.9; use --clips 7 to see more)" in out
    pd.testing.assert_frame_equal(table[table["start"] == 0], first, rtol=1e-4)  # the first clip is as before


def test_a_list_as_csv_has_the_mean_probability_of_each_action(trained, small_data, tmp_path):
    words = ["--save_model_path", trained("CRNN"), "--clips", "3"]
    table, out = predict_table(tmp_path, *words, "--video", small_data / "jpegs" / "v_Punch_g03_c01")
    assert len(table) == 9 and "seconds, guessed from the frames" in out
    predict(*words, "--output", tmp_path / "list.csv")
    row = pd.read_csv(tmp_path / "list.csv").set_index("filename").loc["v_Punch_g03_c01"]
    mean = mean_of(table)
    assert row["y_pred"] == mean.idxmax()
    assert row[ACTIONS].tolist() == pytest.approx(mean[ACTIONS].tolist(), rel=1e-5)


def test_of_a_short_video_no_clip_is_taken_twice(trained, tmp_path):
    write_video(tmp_path / "short.mp4", make_images(2, count=12))
    words = ["--save_model_path", trained("Conv3D"), "--video", tmp_path / "short.mp4", "--clips", "20"]
    assert "the mean of 3 clips" in predict(*words).stdout
    write_video(tmp_path / "short.mp4", make_images(2, count=10))
    assert "to see more" not in predict(*words).stdout  # nothing is left
    write_video(tmp_path / "short.mp4", make_images(2, count=7))
    table, out = predict_table(tmp_path, *words)
    assert len(table) == 3 and "(3 frames shorter than a clip: the last frame is held)" in out


PLOTS = {"one clip": (12, "1"), "a dozen clips": (90, "12"), "many clips": (90, "60")}


@pytest.mark.parametrize("case", PLOTS)
def test_a_picture_of_what_happens_when(case, trained, tmp_path):
    count, clips = PLOTS[case]
    write_video(tmp_path / "a.mp4", make_images(2, count=count))
    out = predict("--save_model_path", trained("Conv3D"), "--video", tmp_path / "a.mp4", "--clips", clips,
                  "--plot", tmp_path / "a.png").stdout
    assert f"Output  {tmp_path / 'a.png'}" in out
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG" and image.width >= 1000 and 300 < image.height < image.width
        colours = np.asarray(image.convert("RGB")).reshape(-1, 3)
        assert len(np.unique(colours, axis=0)) > 500  # frames, not lines alone


def test_a_picture_of_names_with_signs_and_with_letters_that_no_font_has(trained, tmp_path, monkeypatch):
    """A $ starts a formula in Matplotlib, and a _ hides a line from its legend."""
    monkeypatch.setattr(check_model_prediction, "FONTS", ("STIXGeneral",))  # comes with Matplotlib
    video = tmp_path / ("_cost $5_{" + ("\udce9" if sys.platform == "linux" else ""))  # not UTF-8
    write_frames(video, make_images(1, count=30))
    checkpoint = load(trained("Conv3D") / "Conv3D_epoch2.pth")
    torch.save(checkpoint | {"action_names": ["$走_{", "$y^{$", "_Wave"]}, tmp_path / "signs.pth")
    done = predict("--checkpoint", tmp_path / "signs.pth", "--video", video, "--clips", "3",
                   "--plot", tmp_path / "a.png")
    assert done.stdout.count("no font has 走: install") == 1 and done.stderr == ""
    with Image.open(tmp_path / "a.png") as image:
        assert image.width >= 1000
    assert check_model_prediction.fit_fonts(["走 $", "\u1d81", "caf\udce9"]) == {
        "走 $": r"\u8d70 $", "\u1d81": "\u1d81", "caf\udce9": r"caf\udce9"}  # STIX has the second


def test_a_table_for_excel_has_what_was_predicted_before_ctrl_c(trained, tmp_path, monkeypatch):
    for name in ("-5N Bücken.avi", "b.avi"):
        write_video(tmp_path / name, make_images(1))
    monkeypatch.chdir(tmp_path)
    words = ["--save_model_path", trained("Conv3D"), "--video", "-5N Bücken.avi", "b.avi", "--csv"]
    predict(*words, "whole.csv")
    steps = iter([check_model_prediction.predict_clips, lambda *_: signal.raise_signal(signal.SIGINT)])
    monkeypatch.setattr(check_model_prediction, "predict_clips", lambda *given: next(steps)(*given))
    assert predict(*words, "half.csv", check=False).returncode == 130
    half, whole = Path("half.csv").read_bytes(), Path("whole.csv").read_bytes()
    assert half.startswith(codecs.BOM_UTF8 + b"video,") and whole.startswith(half) and len(half) < len(whole)


# ------------------------------------------------------------------------------ labelled parts


def test_labelled_parts_are_compared_with_the_clips_whose_middle_they_hold(trained, tmp_path, monkeypatch):
    path = write_video(tmp_path / "day" / "long.mp4", make_images(2, count=60), rate=10)
    monkeypatch.chdir(path.parent)
    words = ["--save_model_path", trained("Conv3D"), "--clips", "6", "--video", "long.mp4"]
    table, _ = predict_table(tmp_path, *words)
    assert {*table["video"]} == {str(path)}  # the table lies in another folder
    answers = table.drop_duplicates("start")["action"].tolist()
    wrong = [next(action for action in ACTIONS if action != answer) for answer in answers]
    labels = pd.DataFrame(columns=["action", "start", "end"], data=[  # clips of 0.9 s begin each second
        (answers[0].upper(), 0, 0.5), (wrong[1], 0.5, 2), ("Surf", 3, 4), (wrong[4], 4, 5),
        (answers[4], 4.2, 5), (answers[5], 5.4, "")])
    labels.assign(video="day/long.mp4").to_csv(tmp_path / "videos.csv", index=False)
    out = predict(*words, "--labels", tmp_path / "videos.csv").stdout
    assert "labelled parts: 5 clips, 3 right, 60.0 % (clips in no part: 1)" in out
    assert re.search(rf"^  Surf +0 of   1  taken for {answers[3]}: 1  .unknown to the model.$", out, re.M)
    assert re.search(rf"^  {wrong[1]} +[0-9] of +[0-9]  taken for {answers[1]}: 1$", out, re.M)
    shutil.copy(path, tmp_path)
    labels.assign(video="long.mp4").to_csv(tmp_path / "videos.csv", index=False)
    done = predict(*words, "--labels", tmp_path / "videos.csv", check=False)
    assert_refused(done, "videos.csv does not name long.mp4", str(tmp_path / "long.mp4"))


def test_the_band_of_labels_has_the_seconds_and_the_colours_of_the_curves():
    table = pd.DataFrame([("a.mp4", second, second + 2, action, 0.5) for second in range(9)
                          for action in ("Bend", "Wave")],
                         columns=["video", "start", "end", "action", "probability"])
    table.attrs = dict(seconds=10, unit="seconds")
    parts = [Video("", "a.mp4", action, "", start=start, end=end) for action, start, end in (
        ("Wave", 0, 4), ("Bend", 5, 7), ("$Surf_{", 6, math.inf))]  # the last one is in a second row
    figure = check_model_prediction.plot_timeline(table, [], parts)
    canvas, axes = FigureCanvasAgg(figure), figure.axes[0]
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1, :, :3] / 255
    colors = {line.get_label(): line.get_color() for line in axes.lines} | {"$Surf_{": "silver", "": "white"}
    for second, percent, action in (
            (0.1, -14, "Wave"), (3.9, -14, "Wave"), (4.1, -14, ""), (5.1, -14, "Bend"), (6.9, -14, "Bend"),
            (5.9, -26, ""), (6.1, -26, "$Surf_{"), (9.9, -26, "$Surf_{")):
        x, y = axes.transData.transform((second, percent)).astype(int)
        np.testing.assert_allclose(pixels[y, x], to_rgb(colors[action]), atol=0.01, err_msg=f"{second} s")


# ------------------------------------------------------------------------------ speed of motion


def test_the_speed_of_motion_is_that_of_the_training(trained, tmp_path):
    """Of a file that is twice as fast every second frame is taken, and so on; of a slower one it is said."""
    checkpoint = load(trained("Conv3D") / "Conv3D_epoch2.pth") | {"frame_rate": 60.0}
    torch.save(checkpoint, tmp_path / "at_60.pth")
    words, notes = ["--checkpoint", tmp_path / "at_60.pth", "--video"], {}
    for rate in (60, 50, 30, 120, 180, 1000):
        write_video(tmp_path / f"{rate}.mp4", make_images(2, count=40), rate=rate)
        out = predict(*words, tmp_path / f"{rate}.mp4").stdout
        notes[rate] = "".join(re.findall(r"\((.*frames per second, .*)\)", out))
    assert notes[60] == notes[50] == ""
    assert notes[30] == "30 frames per second, but 60 in training: movements look faster than in training"
    assert notes[120] == "120 frames per second, but 60 in training: one frame in 2 is used"
    assert "one frame in 3 is used" in notes[180] and "one frame in 17 is used" in notes[1000]
    table, _ = predict_table(tmp_path, *words, tmp_path / "120.mp4")
    assert table["end"].max() == pytest.approx(0.15, abs=0.01)  # 10 frames at 60 a second
    asked, out = predict_table(tmp_path, *words, tmp_path / "120.mp4", "--skip_frame", "2")
    assert "frames per second" not in out  # it was asked for
    pd.testing.assert_frame_equal(table, asked)
    other, out = predict_table(tmp_path, *words, tmp_path / "120.mp4", "--skip_frame", "1")
    assert "frames per second" not in out and not np.allclose(mean_of(other), mean_of(table))


# ------------------------------------------------------------------------------ what a user can get wrong


def test_a_list_that_cannot_be_written_beside_the_script_is_refused_first(trained, tmp_path, monkeypatch):
    folder = trained("Conv3D")
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(check_model_prediction, "REPO", tmp_path / "file")  # as in a read-only installation
    monkeypatch.setattr("functions.predict", None)
    done = predict("--save_model_path", folder, check=False)
    assert_refused(done, "--output FILE is needed", str(tmp_path / "file"))


def test_a_picture_is_of_one_video(trained, tmp_path):
    for number in (1, 2):
        write_video(tmp_path / "films" / f"{number}.mp4", make_images(number))
    done = predict("--save_model_path", trained("Conv3D"), "--plot", tmp_path / "a.png",
                   "--video", tmp_path / "films", check=False)
    assert_refused(done, "--plot draws one video, but --video names 2")
    assert "1.mp4\n" not in done.stdout and not (tmp_path / "a.png").exists()


def test_what_cannot_be_predicted_is_named_and_the_rest_is_predicted(trained, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    write_frames(tmp_path / "folder", make_images(1, count=2))
    for path in (tmp_path / "folder").iterdir():
        path.write_bytes(b"no picture")
    write_video(tmp_path / "good.avi", make_images(2))
    videos = [tmp_path / name for name in ("broken.mp4", "folder", "none.mp4", "good.avi")]
    done = predict("--save_model_path", trained("Conv3D"), "--csv", tmp_path / "table.csv",
                   "--video", *videos, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "good.avi\n" in done.stdout
    errors = done.stderr.splitlines()
    assert len(errors) == 3 and all(line.startswith("Error: ") for line in errors)
    expected = [("broken.mp4", "cannot be read as"), ("folder", "can be read"), ("none.mp4", "nor a folder")]
    for line, words in zip(errors, expected, strict=True):
        assert all(word in line for word in words), line
    assert len(pd.read_csv(tmp_path / "table.csv")) == len(ACTIONS)


def test_pipes_cameras_and_streams_are_refused(trained):
    streams = ["http://localhost/a.mp4", "rtsp://localhost/1", "0", os.devnull, f"/dev/fd/{os.pipe()[0]}"]
    done = predict("--save_model_path", trained("Conv3D"), "--video", *streams, check=False)
    assert (done.returncode, done.stderr.count("Record a camera or a stream first")) == (1, len(streams))


FLAGS = {  # wrong flags, known before anything is predicted, and what the message must name
    "no model": ([], ["--model", "--save_model_path", "--checkpoint"]),
    "no video to draw": (["--model", "CRNN", "--plot", "a.png"], ["--plot", "--video"]),
    "no clips": (["--model", "CRNN", "--clips", "0"], ["--clips"]),
    "no list": (["--model", "CRNN", "--video", "a.avi", "--output", "a.pkl"], ["--output", "--video"]),
    "unknown model": (["--model", "C3D"], ["--model", "Conv3D"]),
    "no folder for the list": (["--model", "CRNN", "--output", "none/a.pkl"], ["none/a.pkl"]),
    "no folder for a table": (["--model", "CRNN", "--video", "a.avi", "--csv", "none/a.csv"], ["none/a.csv"]),
}


@pytest.mark.parametrize("case", FLAGS)
def test_wrong_flags_are_named(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags, words = FLAGS[case]
    assert_refused(predict(*flags, check=False), *words, status=2)


# ------------------------------------------------------------------------------ any weights


def raw_weights(model, checkpoint, folder, prefix, key=None):
    """The files that the original tutorial writes: state dicts, of encoder and decoder apart."""
    weights = load(checkpoint)["model"]
    if model == "Conv3D":
        parts = {"3dcnn_epoch1.pth": weights}
    else:
        parts = {f"{file}_epoch1.pth": {key.removeprefix(part): tensor for key, tensor in weights.items()
                                        if key.startswith(part)}
                 for file, part in (("cnn_encoder", "encoder."), ("rnn_decoder", "decoder."))}
    for name, state in parts.items():
        state = {prefix + key: tensor for key, tensor in state.items()}
        torch.save({key: state, "epoch": 7} if key else state, folder / name,
                   _use_new_zipfile_serialization=model == "CRNN")  # PyTorch 1.0 wrote no zip files
    return [folder / name for name in parts]


SIZES = {"Conv3D": ["--img_x", "24", "--img_y", "32"], "CRNN": ["--img_x", "40"],
         "ResNetCRNN": ["--img_x", "32"]}


@pytest.mark.parametrize("model, prefix, key", [
    ("Conv3D", "module.", None), ("Conv3D", "", "state_dict"), ("CRNN", "", None),
    ("CRNN", "module.", "state_dict"), ("ResNetCRNN", "module.", None)])
def test_raw_weights_of_the_original_predict_the_same(model, prefix, key, trained, small_data, tmp_path):
    files = raw_weights(model, trained(model) / f"{model}_epoch2.pth", tmp_path, prefix, key)
    video = small_data / "jpegs" / "v_Punch_g03_c01"
    theirs = predict("--checkpoint", *reversed(files), "--action_name_path", small_data / "actions.pkl",
                     "--frames", "10", *SIZES[model], "--video", video).stdout
    ours = predict("--checkpoint", trained(model) / f"{model}_epoch2.pth", "--video", video).stdout
    assert theirs[theirs.index("v_Punch_g03_c01"):] == ours[ours.index("v_Punch_g03_c01"):]


INPUTS = {  # the model, flags of its training
    "frames and differences of several clips": ("Conv3D", "--input both --clips 2"),
    "grey frames": ("Conv3D", "--channels 1"),
    "frames and differences": ("CRNN", "--input both"),
    "differences in kept features": ("ResNetCRNN", "--input differences --end_frame 4"),
}


@pytest.mark.parametrize("case", INPUTS)
def test_what_the_model_saw_in_training_it_sees_in_prediction(case, small_data, tmp_path):
    """Also as many clips; in a list by kept clips and in --video. Raw weights tell it by their shape."""
    model, flags = INPUTS[case]
    train(model, small_data, tmp_path / "out", *flags.split(), "--epochs", "1")
    checkpoint = tmp_path / "out" / f"{model}_epoch1.pth"
    args = argparse.Namespace(**load(checkpoint)["args"])
    assert MODULES[model].make_dataset(args, []).input == args.input
    listed, _ = predict_list(tmp_path, "--checkpoint", checkpoint)
    video = small_data / "jpegs" / "v_Punch_g03_c01"
    table, _ = predict_table(tmp_path, "--checkpoint", checkpoint, "--video", video)
    rounding = 1e-2 if model == "ResNetCRNN" else 1e-5  # its features are kept in half precision
    assert mean_of(table).max() == pytest.approx(listed.loc[video.name, "confidence"], rel=rounding)
    if model != "ResNetCRNN":
        words = [*raw_weights(model, checkpoint, tmp_path, ""), "--action_name_path",
                 small_data / "actions.pkl", "--frames", "10", *SIZES[model], "--clips", args.clips]
        raw, _ = predict_table(tmp_path, "--checkpoint", *words, "--video", video)
        pd.testing.assert_frame_equal(raw, table)


@pytest.fixture(scope="module")
def weights(trained, small_data, tmp_path_factory) -> dict[str, Path]:
    """Files and folders by name: right halves, and wrong weights of every kind."""
    root = tmp_path_factory.mktemp("weights")
    cnn, rnn = raw_weights("CRNN", trained("CRNN") / "CRNN_epoch2.pth", root, "")
    (root / "empty").mkdir()
    (root / "other").mkdir()
    torch.save({"epoch": 1}, root / "other" / "CRNN_epoch1.pth")
    torch.save(UCF101_3DCNN.CNN3D(9, 9, 9, 0, 4, 4, 3), root / "whole.pth")
    torch.save(UCF101_3DCNN.CNN3D(9, 9, 9, 0, 4, 4, 3, in_channels=2).state_dict(), root / "two.pth")
    torch.save({"layer.weight": torch.zeros(1)}, root / "foreign.pth")
    torch.save(torch.zeros(3), root / "tensor.pth")
    torch.save({"action_names": ACTIONS, "epoch": 1}, root / "half.pth")
    (root / "text.pth").write_text("weights")
    return dict(root=root, cnn=cnn, rnn=rnn, conv3d=trained("Conv3D") / "Conv3D_epoch2.pth",
                actions=small_data / "actions.pkl")


WRONG_WEIGHTS = {  # flags, what the message must name
    "no checkpoint": ("--model CRNN --save_model_path {root}/empty", ["empty holds no CRNN_epoch"]),
    "no checkpoint of any model": ("--save_model_path {root}/empty", ["empty holds no", "train"]),
    "no values": ("--save_model_path {root}/other", ["no checkpoint in", "other can be read"]),
    "flags for raw weights": ("--checkpoint {conv3d} --frames 4", ["holds its actions, sizes and frames"]),
    "other model": ("--model CRNN --checkpoint {conv3d}", ["a checkpoint of Conv3D, not of CRNN"]),
    "half the weights": ("--checkpoint {cnn}", ["name the files of both encoder and decoder"]),
    "other sizes": ("--checkpoint {cnn} {rnn} --img_x 99 --action_name_path {actions}",
                    ["does not fit this model", "fc1.weight"]),
    "no file": ("--checkpoint {root}/none.pth", ["none.pth: no such file"]),
    "no list of actions": ("--checkpoint {cnn} {rnn} --img_x 40", ["has 3 actions", "--action_name_path"]),
    "a whole pickled model": ("--checkpoint {root}/whole.pth", ["whole.pth", "state_dict()"]),
    "two channels": ("--checkpoint {root}/two.pth --action_name_path {actions}", ["two.pth", "2 channels"]),
    "foreign weights": ("--checkpoint {root}/foreign.pth", ["foreign.pth", "Conv3D, CRNN or ResNetCRNN"]),
    "half a checkpoint": ("--checkpoint {root}/half.pth", ["half.pth"]),
    "a tensor": ("--checkpoint {root}/tensor.pth", ["tensor.pth is damaged or not a checkpoint"]),
    "a text": ("--checkpoint {root}/text.pth", ["text.pth is damaged or not a checkpoint"]),
}


@pytest.mark.parametrize("case", WRONG_WEIGHTS)
def test_wrong_weights_end_in_one_message(case, weights, small_data):
    flags, words = WRONG_WEIGHTS[case]
    flags = [flag.format(**weights) for flag in flags.split()]
    done = predict(*flags, "--video", small_data / "jpegs" / "v_Punch_g03_c01", check=False)
    assert_refused(done, *words)
