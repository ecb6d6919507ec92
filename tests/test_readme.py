"""The README promises only what exists."""
import re
import shlex
from pathlib import Path

import pandas
import pytest
import torch

import videos
from conftest import REPO, SCRIPTS, predict, run, run_here, train, tree
from frames import read_frames

README = (REPO / "README.md").read_text(encoding="utf-8")
COMMANDS = [*SCRIPTS.values(), REPO / "check_model_prediction.py"]
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.S)


def test_every_command_flag_file_and_heading_it_mentions_exists():
    helps = {path.name: run_here(path, "--help").stdout for path in COMMANDS}
    inline = re.findall(r"`((?:python|torchrun)\s[^`]*)`", README)
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.S)).replace("\\\n", " ").splitlines()
    parts = [part for line in [*lines, *inline] for part in line.split("#")[0].split("&&")]
    commands = [shlex.split(part) for part in parts if ".py" in part]  # those that run one of our scripts
    assert len(commands) > 15
    for words in commands:
        script = next(word for word in words if word.endswith(".py"))
        assert (REPO / script).exists(), words
        for flag in (word for word in words[words.index(script):] if word.startswith("--")):
            assert re.search(rf"^  {flag}\b|, {flag}\b", helps[(REPO / script).name], re.M), words
    others = {"--nproc_per_node", "--max_restarts", "--nnodes", "--rdzv_backend", "--rdzv_endpoint",
              "--shm-size"}
    flags = set(re.findall(r"--[a-z][a-z_-]+\w", README)) - others
    assert [flag for flag in flags if flag not in "".join(helps.values())] == []
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert [link for link in links if not (REPO / link).exists()] == []
    headings = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
                for title in re.findall(r"^#+ (.*)", README, re.M)]
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= set(headings)


RECIPES = dict(re.findall(r"^## (.*?)\n.*?^```python\n(.*?)^```",
                          (REPO / ".github" / "TABLES.md").read_text(encoding="utf-8"), re.S | re.M))
RECIPES |= {code: f"import pandas\n{code}" for code in SNIPPETS[0].split("\n\n")}
VIDEOS = ("a b/1.mp4", "2.mp4", "Bend/v_Bend_g08_c01.avi", "Bend/v_Bend_g01_c01.avi", "frames 1/img_1.jpg",
          "frames/7/1.jpg", "frames/8/1.jpg", "anna/Bend/1.mp4", "train/1.mp4", "test/1.mp4", "day1.mp4",
          "KTH/person01_boxing_d1_uncomp.avi", "S001C001P003R002A013_rgb.avi")
UCF101 = {"v_Bend_g08_c01": "Bend g8 train", "v_Bend_g01_c01": "Bend g1 test"}
LISTS = {  # a part of a recipe's title: the files that it reads; action, source and side of each video
    "path number": ({"list.txt": "a b/1.mp4 1\n2.mp4 0\n", "classes.txt": "Wave\nBend\n"},
                    {"a b/1": "Bend", "2": "Wave"}),
    "path number|from 1": ({"list.txt": "a b/1.mp4 2\n2.mp4 1\n", "classes.txt": "Wave\nBend\n"},
                           {"a b/1": "Bend", "2": "Wave"}),
    "path frames number": ({"list.txt": "frames 1 9 1\nframes/7 5 0\n", "classes.txt": "Wave\nBend\n"},
                           {"frames 1": "Bend", "frames/7": "Wave"}),
    "other column names": ({"labels.csv": "path,class\na b/1.mp4,001\n2.mp4,None\n"},
                           {"a b/1": "001", "2": "None"}),
    "HMDB51": ({"Bend_test_split1.txt": "v_Bend_g08_c01.avi 1 \nv_Bend_g01_c01.avi 2 \na.avi 0 \n"}, UCF101),
    "id;label": ({"train.csv": "7;Bend\n", "validation.csv": "8;Wave to, say\n"},
                 {"frames/7": "Bend train", "frames/8": "Wave to, say test"}),
    "one each": ({"train.csv": "video,action\na b/1.mp4,Bend\n",
                               "val.csv": "video,action\n2.mp4,Bend\n"},
                              {"a b/1": "Bend train", "2": "Bend test"}),
    "trainlist01": ({"trainlist01.txt": "Bend/v_Bend_g08_c01.avi 1\n",
                     "testlist01.txt": "Bend/v_Bend_g01_c01.avi\n"}, UCF101),
    "Face: metadata.jsonl": ({"metadata.jsonl": '{"file_name": "2.mp4", "label": "007"}\n'}, {"2": "007"}),
    "each side": ({"train/metadata.csv": "file_name,label\n1.mp4,007\n",
                   "test/metadata.jsonl": '{"file_name": "1.mp4", "label": "007"}\n'},
                  {"train/1": "007 train", "test/1": "007 test"}),
    "KTH": ({}, {"KTH/person01_boxing_d1_uncomp": "boxing person01"}),
    "NTU": ({}, {"S001C001P003R002A013_rgb": "A013 p003"}),
    "Folders of people": ({}, {"anna/Bend/1": "Bend anna"}),
    "BORIS": ({"events.csv": "Media file name,Subject,Behavior,Behavior type,Start (s),Stop (s)\n"
                             "C:\\x\\day1.mp4,Anna,Bend,STATE,0.5,2.25\n/x/day1.mp4,,Clap,POINT,1,1\n"},
              {"day1@0.5-2.25": "Bend day1"}),
    "ELAN": ({"day1.txt": "action\t\t00:01:00.500\t00:01:02.000\tBend\nnote\t\t00:00:00\t00:00:01\tx\n"},
             {"day1@60.5-62": "Bend day1"}),
}


@pytest.mark.parametrize("part", LISTS)
def test_each_recipe_for_a_list_makes_a_table_that_is_read(part, tmp_path, monkeypatch):
    [recipe] = [code for title, code in RECIPES.items() if part.partition("|")[0] in title]
    files, expected = LISTS[part]
    for name, text in {**dict.fromkeys(VIDEOS, ""), **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    exec(recipe, {})
    assert {video.name: " ".join(filter(None, (video.action, video.source, video.given)))
            for video in videos.find_videos("videos.csv")} == expected


def test_every_recipe_is_tested():
    assert all(any(part.partition("|")[0] in title for part in LISTS) for title in RECIPES), RECIPES


@pytest.mark.filterwarnings("ignore")  # of torch.export, about the LSTM
@pytest.mark.parametrize("model, flags", [("Conv3D", "--input both"), ("CRNN", "--input differences"),
                                          ("ResNetCRNN", None)])
def test_in_your_own_program_a_model_and_its_export_say_the_same(model, flags, trained, small_data, tmp_path,
                                                                 monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the snippet writes
    if flags:
        train(model, small_data, tmp_path, *flags.split(), "--epochs", "1")
    checkpoint = max((tmp_path if flags else trained(model)).glob(f"{model}_epoch*.pth")).as_posix()
    video = str(small_data / "jpegs" / "v_Punch_g03_c01")
    own = {"images": [pixels for _, pixels in read_frames(video, list(range(1, 13)))]}
    [code] = [snippet for snippet in SNIPPETS if "import check_model_prediction" in snippet]
    for theirs, ours in (("CRNN/model_ckpt/CRNN_epoch8.pth", checkpoint),
                         ("numpy.zeros((28, 240, 320, 3), numpy.uint8)", "numpy.array(images)")):
        assert code.count(theirs) == 1
        code = code.replace(theirs, ours)
    exec(code if flags else code.split("torch.export")[0], own)  # to export a ResNet takes a minute
    predict("--checkpoint", checkpoint, "--video", video, "--csv", "table.csv")
    expected = pandas.read_csv("table.csv").set_index("action")["probability"][own["trained"].action_names]
    rounding = 0.02 if torch.cuda.is_available() else 1e-6  # predict() is in bfloat16 there
    for found in (own["probabilities"], own["logits"].softmax(1)[0] if flags else own["probabilities"]):
        assert found.tolist() == pytest.approx(expected.tolist(), abs=rounding)


def test_its_recipe_makes_parts_of_predicted_clips(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clips = [("a.mp4", 0, 2, "Bend"), ("a.mp4", 1, 3, "Bend"), ("a.mp4", 2, 4, "Wave"),
             ("a.mp4", 3, 5, "Bend"), ("b.mp4", 0, 1.5, "Bend"), ("b.mp4", 3, 4.5, "001")]
    lines = [f"{video},{start},{end},{action},0.9\n{video},{start},{end},None,0.1"
             for video, start, end, action in clips]
    Path("actions.csv").write_text("\n".join(["video,start,end,action,probability", *lines]))
    [code] = [code for code in SNIPPETS if "actions.csv" in code]
    exec(code, {})
    found = videos.find_videos(str(tree(tmp_path, "a.mp4", "b.mp4") / "videos.csv"))  # it can be trained with
    assert [(video.name, video.action) for video in found] == [
        ("a@0-2.5", "Bend"), ("a@2.5-3.5", "Wave"), ("a@3.5-5", "Bend"), ("b@0-1.5", "Bend"),
        ("b@3-4.5", "001")]


def test_its_pictures_exist_and_are_small():
    pictures = re.findall(r"!\[.+\]\((.+)\)", README)  # each with words for those who do not see it
    assert len(pictures) == 4
    assert all((REPO / picture).stat().st_size < 150_000 for picture in pictures)


def test_nothing_but_the_fixed_layout_stands_at_the_top():
    tracked = run("git", "ls-files", cwd=REPO, check=False)
    if tracked.returncode == 0:
        top = {line.split("/")[0] for line in tracked.stdout.splitlines()}
        assert {name for name in top if not name.startswith(".")} <= {
            "Conv3D", "CRNN", "ResNetCRNN", "UCF101actions.pkl", "check_model_prediction.py",
            "check_video_predictions.ipynb", "requirements.txt", "README.md", "tests"}
