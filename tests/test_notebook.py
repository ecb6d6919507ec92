"""check_video_predictions.ipynb as it is saved in the repository, and run on other lists than its own."""
import base64
import re
import shutil

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from conftest import REPO, SCRIPTS, make_images, write_frames, write_video

PATH = REPO / "check_video_predictions.ipynb"
LIST = pd.DataFrame([  # filename, y, y_pred, confidence, split
    ("v_Biking_g01_c01", "Biking", "Biking", 0.90, "test"),
    ("v_Biking_g01_c02", "Biking", "Punch", 0.70, "test"),
    ("v_Biking_g01_c03", "Biking", "Punch", 0.97, "test"),
    ("v_Punch_g01_c01", "Punch", "Biking", 0.80, "test"),
    ("v_Punch_g01_c02", "Punch", "Punch", 0.60, "test"),
    ("v_Punch_g02_c01", "Punch", "Punch", 0.99, "train"),
    ("v_YoYo_g02_c01", "YoYo", "Biking", 0.95, "train"),
    ("v_YoYo_g02_c02", "YoYo", "Punch", 0.99, "train"),
], columns=["filename", "y", "y_pred", "confidence", "split"])
OWN = pd.DataFrame([  # of videos in class folders
    ("Biking/anna 1", "Biking", "Punch", 0.80, "new"),
    ("Punch/1", "Punch", "Punch", 0.90, "new"),
], columns=LIST.columns)
NEW = "From here on: new videos (videos: 2, mistakes: 1)"
RUNS = {  # the list of each run, the parameters that are not the usual ones, how many pictures, what is said
    "usual": (LIST, {}, 5, ["From here on: test videos (videos: 5, mistakes: 3)",
                            "Video   v_Biking_g01_c03: Biking -> Punch (97 %)"]),
    "one video": (LIST, {"video": "v_Biking_g01_c02"}, 5,
                  ["Video   v_Biking_g01_c02: Biking -> Punch (70 %)"]),
    "tutorial": (  # as the original tutorial wrote it: the bars and the confusion matrix need no frames
        LIST[["filename", "y", "y_pred"]], {"data_path": "nowhere", "save_model_path": "nowhere"}, 2,
        ["some may be training videos", "From here on: all videos (videos: 8, mistakes: 5)",
         "The list has no confidence", "There are no pictures: nowhere does not exist",
         "Biking -> Punch  v_Biking_g01_c02: no picture in nowhere"]),
    "perfect": (LIST[LIST["y"] == LIST["y_pred"]], {}, 2,
                ["There is no mistake among the test videos: no pair is confused",
                 "There is no mistake among the test videos: set video"]),
    "untested": (LIST[LIST["split"] == "train"], {}, 2,
                 ["The list has no 'test' videos. All videos are shown.",
                  "From here on: all videos (videos: 3, mistakes: 2)"]),
    "own": (OWN, {"data_path": "my videos", "save_model_path": "nowhere", "split": "new"}, 4,
            [NEW, "There is no timeline: nowhere does not exist"]),
    "table": (OWN.replace("Biking", "走 $5_{$"),  # a script that few fonts have; $ starts a formula
              {"data_path": "my videos/table.csv", "split": "new"}, 5, [NEW, "走 $5_{$"]),
}


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs_of(cells) -> list:
    return [output for cell in cells for output in cell.outputs]


def text_of(outputs) -> str:
    """Return all text of the outputs, without pictures."""
    texts = [output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs]
    return "\n".join(texts) + "\n"


def pictures_of(outputs) -> list[bytes]:
    data = [output.get("data", {}) for output in outputs]
    return [base64.b64decode(entry["image/png"]) for entry in data if "image/png" in entry]


@pytest.fixture(scope="module")
def saved():
    return nbformat.read(PATH, as_version=4)


@pytest.fixture(scope="module")
def results(saved, trained, tmp_path_factory) -> dict[str, list]:
    """Return the outputs of each of RUNS. One kernel runs them all; its variables are deleted in between."""
    folder = tmp_path_factory.mktemp("notebook")
    shutil.copy(REPO / "check_model_prediction.py", folder)
    for script in SCRIPTS.values():
        (folder / script.parent.name).mkdir()
        for path in script.parent.glob("*.py"):
            shutil.copy(path, folder / script.parent.name)
    write_frames(folder / "jpegs" / "v_Biking_g01_c02", make_images(0, count=30))
    write_frames(folder / "jpegs" / "v_Biking_g01_c03", make_images(1, count=3))  # shorter than a strip
    write_video(folder / "jpegs" / "Punch" / "v_Punch_g01_c01.avi", make_images(2, count=9))
    write_frames(folder / "my videos" / "Biking" / "anna 1", make_images(3))
    write_video(folder / "my videos" / "Punch" / "1.mp4", make_images(4))
    (folder / "my videos" / "table.csv").write_text(
        "video,action\nBiking/anna 1,走 $5_{$\nPunch/1.mp4,Punch\n", encoding="utf-8")
    notebook = nbformat.v4.new_notebook()
    for name, (table, changed, _, _) in RUNS.items():
        table.to_pickle(folder / f"{name}.pkl")
        parameters = {"prediction_path": f"{name}.pkl", "data_path": "jpegs", "split": "test", "video": None,
                      "save_model_path": str(trained("CRNN"))} | changed
        first = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
        sources = ["%reset -f", first] + [cell.source for cell in code_cells(saved)[1:]]
        notebook.cells += [nbformat.v4.new_code_cell(source, metadata={"run": name}) for source in sources]
    NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True,
                   resources={"metadata": {"path": str(folder)}}).execute()
    results = {}
    for name in RUNS:
        results[name] = outputs_of(cell for cell in notebook.cells if cell.metadata["run"] == name)
        errors = [re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output.traceback)) for output in results[name]
                  if output.output_type == "error"]
        assert not errors, f"the {name} list: {errors[0]}"
    return results


# ------------------------------------------------------------------------------ as it is saved


def test_the_first_code_cell_holds_the_parameters_and_text_before_it_warns_about_pickles(saved):
    lines = code_cells(saved)[0].source.splitlines()
    assert [line.split(" = ")[0] for line in lines] == [
        "prediction_path", "data_path", "save_model_path", "split", "video"]
    assert "pickle can run code" in " ".join(saved.cells[0].source.split())  # said before


def test_it_is_saved_with_the_outputs_of_one_run_from_top_to_bottom(saved):
    cells = code_cells(saved)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = outputs_of(cells)
    assert len(pictures_of(outputs)) == 5  # bars, strips of pairs, confusion matrix, mistakes, timeline
    assert all(output.output_type != "error" and output.get("name") != "stderr" for output in outputs)


def test_its_remarks_fit_its_saved_outputs(saved):
    remarks = "".join(cell.source for cell in saved.cells if cell.cell_type == "markdown")
    text = text_of(outputs_of(code_cells(saved)))
    total = int(re.search(r"From here on: test videos \(videos: 192, mistakes: (\d+)\)", text)[1])
    sway = sum(map(int, re.findall(r"^Sway +\w+ +(\d+)$", text, re.M)))
    assert f"Sway, has {sway} of the {total} mistakes" in remarks


def test_it_is_small_and_does_not_show_the_machine_it_ran_on(saved):
    assert PATH.stat().st_size < 500_000
    assert set(saved.metadata) == {"kernelspec", "language_info"}
    assert saved.metadata.kernelspec.name == "python3"
    words = "".join(cell.source for cell in saved.cells) + text_of(outputs_of(code_cells(saved)))
    assert not re.findall(r"(?<![\w.])/(?:work|tmp|home|root|Users|usr|var|opt|mnt)/|\b[A-Z]:\\", words)


# ------------------------------------------------------------------------------ run on other lists


@pytest.mark.parametrize("name", RUNS)
def test_a_list_is_shown_with_its_pictures_and_without_a_warning(name, results):
    """Letters that no font has would be warnings, and a formula that is none an error."""
    _, _, pictures, words = RUNS[name]
    text = text_of(results[name])
    assert len(pictures_of(results[name])) == pictures
    assert [part for part in words if part not in text] == []
    assert ("no picture" in text) == (name in ("tutorial", "untested"))  # of the others the frames are there
    assert [output.text for output in results[name] if output.get("name") == "stderr"] == []


def test_mistakes_are_shown_by_split_and_pair_and_ordered_by_confidence(results):
    text = text_of(results["usual"])
    assert re.search(r"test +5 +2 +40\.0 %", text) and re.search(r"train +3 +1 +33\.3 %", text)
    assert re.search(r"Biking +Punch +2\n", text) and re.search(r"Punch +Biking +1\n", text)
    assert "YoYo" not in text  # a mistake on a training video
    mistakes = re.findall(r"(.* -> .*): no picture", text_of(results["untested"]))[-2:]
    assert mistakes == ["YoYo -> Punch (99 %)  v_YoYo_g02_c02", "YoYo -> Biking (95 %)  v_YoYo_g02_c01"]


def test_the_timeline_is_of_the_most_confident_mistake_or_the_video_asked_for(results):
    usual, one = pictures_of(results["usual"]), pictures_of(results["one video"])
    assert usual[:4] == one[:4] and usual[4] != one[4]
