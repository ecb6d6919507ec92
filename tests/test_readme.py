"""The README promises only what exists."""
import re
import shlex

import functions
from conftest import REPO, SCRIPTS, run, run_here

README = (REPO / "README.md").read_text(encoding="utf-8")
COMMANDS = [*SCRIPTS.values(), REPO / "check_model_prediction.py"]


def readme_commands():
    """Every shell command in the README that runs one of our scripts."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.S)
    inline = re.findall(r"`((?:python|torchrun) [^`]*)`", README)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines = [line.split("#")[0] for line in lines] + inline
    return [part.strip() for line in lines for part in line.split("&&") if ".py" in part]


def test_every_command_names_a_script_and_flags_that_exist():
    helps = {path.name: run_here(path, "--help").stdout for path in COMMANDS}
    commands = readme_commands()
    assert len(commands) > 15
    for command in commands:
        words = shlex.split(command)
        script = next(word for word in words if word.endswith(".py"))
        assert (REPO / script).exists(), command
        for flag in (word for word in words[words.index(script):] if word.startswith("--")):
            assert re.search(rf"^  {flag}\b|, {flag}\b", helps[(REPO / script).name], re.M), command


def test_every_flag_and_file_it_mentions_exists():
    helps = "".join(run_here(path, "--help").stdout for path in COMMANDS)
    others = {"--nproc_per_node", "--max_restarts", "--nnodes", "--rdzv_backend", "--rdzv_endpoint",
              "--shm-size"}
    for flag in set(re.findall(r"--[a-z][a-z_-]+\w", README)) - others:
        assert flag in helps, flag
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (REPO / link).exists(), link
    for anchor in re.findall(r"\]\(#([^)]+)\)", README):
        headings = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
                    for title in re.findall(r"^#+ (.*)", README, re.M)]
        assert anchor in headings, anchor


def test_its_python_snippets_run(trained, tmp_path, monkeypatch):
    link, load = re.findall(r"```python\n(.*?)```", README, re.S)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.csv").write_text("file,action\na/1.mp4,Bend\n2.mp4,Wave\n")
    (tmp_path / "videos" / "a").mkdir(parents=True)
    for name in ("a/1.mp4", "2.mp4"):
        (tmp_path / "videos" / name).write_bytes(b"")
    exec(link, {})
    assert [video.name for video in functions.find_videos("my_videos")] == ["Bend/a/1", "Wave/2"]
    checkpoint = trained("CRNN") / "CRNN_epoch2.pth"
    exec(load.replace("CRNN/model_ckpt/CRNN_epoch8.pth", checkpoint.as_posix()), {})


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
