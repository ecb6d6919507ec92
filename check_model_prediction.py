"""Let a trained model predict a list of all videos, or the actions of any video.

    python check_model_prediction.py --model CRNN
        the best epoch, over all videos of its data set
    python check_model_prediction.py --model CRNN --video a.mp4 b.avi folder
        the five likeliest actions of video files or frame folders
    python check_model_prediction.py --model CRNN --video *.mp4 --csv top5.csv
        the same, also as a table
    python check_model_prediction.py --model CRNN --checkpoint CRNN_epoch8.pth
        this checkpoint (raw state dicts: encoder.pth decoder.pth)

The list, UCF101_<model>_videos_prediction.pkl, is a pandas DataFrame with the
columns filename, y, y_pred, confidence (0..1) and split. The notebook
check_video_predictions.ipynb shows it. Sizes, frames and actions come from the
checkpoint. The original tutorial's raw state dicts do not tell them: --img_x,
--img_y and --frames do.
"""
import argparse
import importlib
import os
import shutil
import sys
from pathlib import Path

import av
import pandas as pd
import torch
from joblib import cpu_count  # comes with scikit-learn

REPO = Path(__file__).resolve().parent
SCRIPTS = {"Conv3D": "UCF101_3DCNN", "CRNN": "UCF101_CRNN", "ResNetCRNN": "UCF101_ResNetCRNN"}
sys.path[:0] = [str(REPO / folder) for folder in SCRIPTS]

from functions import (WORLD_SIZE, Dataset_3DCNN, Dataset_CRNN, FeatureDataset, HelpFormatter, InputError,  # noqa: E402
                       Video, cached_features, check_frames, get_device, list_videos, load_action_names,
                       load_checkpoint, load_weights, make_loader, parallelize, predict, run, saved_epochs,
                       select_frames, write_atomically)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter, allow_abbrev=False)
    number = dict(type=int, metavar="int")
    parser.add_argument("--model", choices=SCRIPTS, required=True, help="the folder of the model's script")
    parser.add_argument("--demo", action="store_true", help="take the checkpoints of the script's --demo")
    parser.add_argument("--save_model_path", metavar="FOLDER", help="take the best checkpoint of this folder")
    parser.add_argument("--checkpoint", nargs="+", metavar="FILE",
                        help="take this checkpoint, or raw state dicts (of encoder and decoder: two files)")
    parser.add_argument("--video", nargs="+", metavar="PATH",
                        help="predict these video files and frame folders")
    parser.add_argument("--csv", metavar="FILE", help="with --video: also write the top 5 into this table")
    parser.add_argument("--data_path", metavar="FOLDER", help="list this folder's videos, not the training's")
    parser.add_argument("--output", metavar="FILE", help="write the list here, not beside this script")
    parser.add_argument("--batch_size", **number, help="videos at a time, not the training's number")
    parser.add_argument("--num_workers", **number, default=cpu_count(), help="processes that read videos")
    parser.add_argument("--begin_frame", **number, help="first frame of a clip, not the training's")
    parser.add_argument("--skip_frame", **number, help="take every n-th frame, not the training's")
    raw = parser.add_argument_group("raw state dicts only, as they do not tell these")
    raw.add_argument("--action_name_path", metavar="FILE", help="the action names, a pickled list")
    raw.add_argument("--img_x", **number, help="height of the frames")
    raw.add_argument("--img_y", **number, help="width of the frames")
    raw.add_argument("--frames", **number, help="frames in a clip")
    options = parser.parse_args()
    if options.csv and not options.video:
        parser.error("--csv goes with --video")
    for name, value in vars(options).items():
        if type(value) is int and value < (0 if name == "num_workers" else 1):
            parser.error(f"argument --{name}: {value} is too small")
    for path in filter(None, (options.csv, options.output)):  # now, not after an hour of predicting
        if not os.access(os.path.dirname(path) or ".", os.W_OK):
            parser.error(f"{path}: there is no such folder, or it cannot be written to")
    return options


def load_best(folder: Path, name: str) -> tuple[dict, Path]:
    """Load the checkpoint of the highest test accuracy (then the lowest test loss) in a folder."""
    paths = [folder / f"{name}_epoch{epoch}.pth" for epoch in saved_epochs(folder, name)]
    if not paths:
        raise InputError(f"{folder} holds no {name}_epoch*.pth: train first, or name a --checkpoint")
    ranked = []
    for path in paths:
        try:
            checkpoint = load_checkpoint(path, "test_score", "test_loss", only_values=True)
            ranked.append((-checkpoint["test_score"], checkpoint["test_loss"], path))
        except InputError as error:
            print(f"{error}: trying the others")
    for *_, path in sorted(ranked):
        try:
            return load_checkpoint(path), path
        except InputError as error:
            print(f"{error}: trying the next best")
    raise InputError(f"no checkpoint in {folder} can be read")


def from_raw_weights(states: list[dict], script, options: argparse.Namespace) -> dict:
    """Make a checkpoint of the original's state dicts: sizes by the weights' shapes, the rest by flags."""
    defaults = {name: default for name, (default, *_) in script.PARAMETERS.items()}
    weights = {}
    for state in states:
        if not all(torch.is_tensor(tensor) for tensor in state.values()):
            raise InputError(f"{', '.join(options.checkpoint)}: neither a checkpoint nor a state dict")
        state = {key.removeprefix("module."): tensor for key, tensor in state.items()}  # DataParallel adds it
        part = "" if options.model == "Conv3D" else "decoder." if "LSTM.weight_ih_l0" in state else "encoder."
        weights.update({part + key: tensor for key, tensor in state.items()})
    try:
        if options.model == "Conv3D":
            size = dict(fc_hidden1=len(weights["fc1.weight"]), fc_hidden2=len(weights["fc2.weight"]),
                        channels=weights["conv1.weight"].shape[1])
        else:
            size = dict(CNN_fc_hidden1=len(weights["encoder.fc1.weight"]), img_x=256, img_y=342,
                        CNN_fc_hidden2=len(weights["encoder.fc2.weight"]),
                        CNN_embed_dim=len(weights["encoder.fc3.weight"]),
                        RNN_hidden_layers=sum("LSTM.weight_ih" in key for key in weights),
                        RNN_hidden_nodes=weights["decoder.LSTM.weight_hh_l0"].shape[1],
                        RNN_FC_dim=len(weights["decoder.fc1.weight"]))
    except KeyError as error:
        raise InputError(f"{', '.join(options.checkpoint)}: no state dict of {options.model}: {error} is "
                         "missing" + " (name the encoder's and the decoder's file)" * (len(states) == 1))
    if options.img_x or options.img_y:
        x, y = options.img_x or options.img_y, options.img_y or options.img_x
        size.update(img_x=x, img_y=y, res_size=x)
    args = defaults | size | dict(end_frame=1 + (options.frames or 28), cache_features=False)
    action_names = sorted(load_action_names(options.action_name_path or defaults["action_name_path"]))
    return dict(model=weights, args=args, action_names=action_names, epoch=None, test_videos=None)


def load_model(options: argparse.Namespace, device):
    """Build the model. Returns (model, its parameters, action names by class, test videos' names or None)."""
    script = importlib.import_module(SCRIPTS[options.model])
    if options.checkpoint:
        path = Path(options.checkpoint[0])
        checkpoint, *others = [load_checkpoint(file) for file in options.checkpoint]
        if others or "action_names" not in checkpoint:
            checkpoint = from_raw_weights([checkpoint, *others], script, options)
    else:
        default = script.DEMO["save_model_path"] if options.demo else script.PARAMETERS["save_model_path"][0]
        checkpoint, path = load_best(Path(options.save_model_path or default), options.model)
    args = argparse.Namespace(**checkpoint["args"])
    T = len(select_frames(args))
    args.begin_frame = options.begin_frame or args.begin_frame
    args.skip_frame = options.skip_frame or args.skip_frame
    args.end_frame = args.begin_frame + T * args.skip_frame
    args.batch_size = options.batch_size or args.batch_size
    args.data_path = options.data_path or args.data_path
    args.num_workers, args.save_model_path = options.num_workers, str(path.parent)
    args.resnet_weights = "none"  # they are in the checkpoint
    try:
        model = script.build_model(args, len(checkpoint["action_names"]))
    except AttributeError as error:
        raise InputError(f"{path} is no checkpoint of {options.model}: it has no parameter {error.name}")
    load_weights(model, checkpoint["model"], path)
    print(f"Weights {path}" + (f", epoch {checkpoint['epoch']}" if checkpoint["epoch"] else ""))
    return parallelize(model, device), args, checkpoint["action_names"], checkpoint["test_videos"]


def make_dataset(name: str, videos: list[Video], labels: list[int], args):
    """The clips in the model's form."""
    if name == "Conv3D":
        return Dataset_3DCNN(videos, labels, select_frames(args), args.img_x, args.img_y, args.channels)
    size = (args.res_size, args.res_size) if name == "ResNetCRNN" else (args.img_x, args.img_y)
    return Dataset_CRNN(videos, labels, select_frames(args), *size)


def predict_list(options, model, args, action_names, test_videos, device) -> None:
    """Predict every video of the data set, write the list, print the accuracy on each side of the split."""
    videos = list_videos(args.data_path, action_names)
    check_frames(videos, select_frames(args))
    labels = [action_names.index(video.action) for video in videos]
    if options.model == "ResNetCRNN" and args.cache_features:
        features, args.num_workers = cached_features(args, model, videos, device), 0
        dataset = FeatureDataset(features, videos, labels)
    else:
        dataset = make_dataset(options.model, videos, labels, args)
    loader = make_loader(dataset, args, shuffle=False, num_workers=args.num_workers)
    logits, _ = predict(model, device, loader)
    confidence, predicted = logits.softmax(1).max(1)
    test = set(test_videos or [])
    known = not test.isdisjoint(video.name for video in videos)  # else they are not those of the training
    table = pd.DataFrame({
        "filename": [video.name for video in videos],
        "y": [video.action for video in videos],
        "y_pred": [action_names[k] for k in predicted],
        "confidence": confidence.numpy(),
        "split": [("test" if video.name in test else "train") if known else "unknown" for video in videos],
    })
    output = options.output or REPO / f"UCF101_{options.model}_videos_prediction.pkl"
    write_atomically(output, lambda file: table.to_pickle(file))
    print(f"Output  {output}\n        {len(table):,} videos; look at them in check_video_predictions.ipynb")
    for split in ("train", "test", "unknown"):
        part = table[table["split"] == split]
        if len(part):
            print(f"Accuracy {split:<7} {(part['y'] == part['y_pred']).mean():6.1%}  of {len(part):,} videos")


def frame_rate_hint(path: str, skip_frame: int) -> str:
    """Return a hint if a file has far more frames a second than UCF101's 25: movements would look slower."""
    if os.path.isdir(path):
        return ""
    with av.open(path) as container:
        rate = float(container.streams.video[0].average_rate or 0)
    if rate / skip_frame < 1.5 * 25:
        return ""
    return f"  ({rate:.0f} frames a second, UCF101 has 25: try --skip_frame {round(rate / 25)})"


def predict_videos(options, model, args, action_names, device) -> None:
    """Print the five likeliest actions of each video, and write them into a table."""
    rows, failed = [], False
    for path in options.video:
        try:
            if not os.path.exists(path):
                raise InputError(f"{path}: no such file or folder")
            video = Video(os.path.basename(os.path.normpath(path)), path, "", 0)
            check_frames([video], select_frames(args))
            X, y = make_dataset(options.model, [video], [0], args)[0]
        except InputError as error:
            print(f"Error: {error}", file=sys.stderr)
            failed = True
            continue
        logits, _ = predict(model, device, [(X[None], torch.tensor([y]))])
        print(f"\n{video.name}{frame_rate_hint(path, args.skip_frame)}")
        top = logits.softmax(1)[0].topk(min(5, len(action_names)))
        for probability, k in zip(top.values.tolist(), top.indices.tolist()):
            rows.append({"video": path, "action": action_names[k], "probability": probability})
            bar = "#" * round(probability * (shutil.get_terminal_size().columns - 40))
            print(f"  {action_names[k]:<24} {probability:6.1%}  {bar}")
    if options.csv and rows:
        write_atomically(options.csv, lambda file: pd.DataFrame(rows).to_csv(file, index=False))
        print(f"\nOutput  {options.csv}")
    if failed:
        sys.exit(1)


def main():
    options = parse_arguments()
    if WORLD_SIZE > 1:
        raise InputError("one process predicts: start this by python, not by torchrun")
    device = get_device()
    model, args, action_names, test_videos = load_model(options, device)
    if options.video:
        predict_videos(options, model, args, action_names, device)
    else:
        predict_list(options, model, args, action_names, test_videos, device)


if __name__ == "__main__":
    run(main, resumes=False)
