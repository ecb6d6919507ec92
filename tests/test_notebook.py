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
RUNS = {  # the list of each run, and the parameters that differ from the usual ones
    "usual": (LIST, {}),
    "one video": (LIST, {"video": "v_Biking_g01_c02"}),
    "tutorial": (LIST[["filename", "y", "y_pred"]],  # as the original tutorial wrote it
                 {"data_path": "nowhere", "save_model_path": "nowhere"}),
    "perfect": (LIST[LIST["y"] == LIST["y_pred"]], {}),
    "untested": (LIST[LIST["split"] == "train"], {}),
    "own": (OWN, {"data_path": "my videos", "save_model_path": "nowhere", "split": "new"}),
    "table": (OWN.replace("Biking", "走 $5_{$"),  # a script that few fonts have; $ starts a formula
              {"data_path": "my videos/table.csv", "split": "new"}),
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
    for name, (table, changed) in RUNS.items():
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


def test_the_first_code_cell_holds_the_parameters_and_nothing_else(saved):
    lines = code_cells(saved)[0].source.splitlines()
    assert [line.split(" = ")[0] for line in lines] == [
        "prediction_path", "data_path", "save_model_path", "split", "video"]


def test_it_warns_about_pickles_of_strangers_before_the_first_code(saved):
    assert saved.cells[0].cell_type == "markdown"
    assert "pickle can run code" in " ".join(saved.cells[0].source.split())


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


def test_a_list_is_shown_by_split_action_pair_and_mistake(results):
    text = text_of(results["usual"])
    assert re.search(r"test +5 +2 +40\.0 %", text) and re.search(r"train +3 +1 +33\.3 %", text)
    assert "From here on: test videos (videos: 5, mistakes: 3)" in text
    assert re.search(r"Biking +Punch +2\n", text) and re.search(r"Punch +Biking +1\n", text)
    assert "YoYo" not in text  # a mistake on a training video
    assert len(pictures_of(results["usual"])) == 5
    assert "no picture" not in text  # frame folders and files, short ones, too


def test_the_timeline_shows_the_most_confident_mistake_or_the_video_asked_for(results):
    usual, one = results["usual"], results["one video"]
    assert "Video   v_Biking_g01_c03: Biking -> Punch (97 %)" in text_of(usual)
    assert "Video   v_Biking_g01_c02: Biking -> Punch (70 %)" in text_of(one)
    assert pictures_of(usual)[:4] == pictures_of(one)[:4] and pictures_of(usual)[4] != pictures_of(one)[4]


def test_without_a_checkpoint_the_timeline_says_so_and_the_rest_is_shown(results):
    assert "There is no timeline: nowhere does not exist" in text_of(results["own"])
    assert len(pictures_of(results["own"])) == 4


@pytest.mark.parametrize("name", ["own", "table"])
def test_new_videos_in_class_folders_or_a_table_are_shown_with_pictures(name, results):
    text = text_of(results[name])
    assert "From here on: new videos (videos: 2, mistakes: 1)" in text
    assert "no picture" not in text


def test_names_in_any_script_and_with_dollar_signs_are_drawn(results):
    """Letters without a font would be warnings, and a formula that is none an error."""
    assert "走 $5_{$" in text_of(results["table"]) and len(pictures_of(results["table"])) == 5


def test_the_original_tutorials_list_opens_without_confidence_split_and_frames(results):
    text = text_of(results["tutorial"])
    assert "some may be training videos" in text
    assert "From here on: all videos (videos: 8, mistakes: 5)" in text
    assert "The list has no confidence" in text
    assert "There are no pictures: nowhere does not exist" in text
    assert "Biking -> Punch  v_Biking_g01_c02: no picture in nowhere" in text
    assert len(pictures_of(results["tutorial"])) == 2  # the bars and the confusion matrix need no frames


def test_a_list_without_mistakes_is_said_to_have_none(results):
    text = text_of(results["perfect"])
    assert "There is no mistake among the test videos: no pair is confused" in text
    assert "There is no mistake among the test videos: set video" in text
    assert len(pictures_of(results["perfect"])) == 2


def test_a_list_without_the_split_asked_for_is_shown_whole(results):
    text = text_of(results["untested"])
    assert "The list has no 'test' videos. All videos are shown." in text
    assert "From here on: all videos (videos: 3, mistakes: 2)" in text
    assert len(pictures_of(results["untested"])) == 2  # no frames to show


def test_mistakes_are_ordered_by_confidence(results):
    mistakes = re.findall(r"(.* -> .*): no picture", text_of(results["untested"]))[-2:]
    assert mistakes == ["YoYo -> Punch (99 %)  v_YoYo_g02_c02", "YoYo -> Biking (95 %)  v_YoYo_g02_c01"]


def test_no_run_warns(results):
    for name, outputs in results.items():
        assert [output.text for output in outputs if output.get("name") == "stderr"] == [], name
