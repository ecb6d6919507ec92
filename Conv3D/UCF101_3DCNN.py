"""Train and test a 3D CNN on UCF101: a clip is an image with a third axis, time.

    python Conv3D/UCF101_3DCNN.py --demo                small demo data
    python Conv3D/UCF101_3DCNN.py --data_path UCF-101   the .avi files
    python Conv3D/UCF101_3DCNN.py --resume              continue
    torchrun --nproc_per_node 2 Conv3D/UCF101_3DCNN.py  on two GPUs
"""
import time
from pathlib import Path

import torch
from joblib import cpu_count  # comes with scikit-learn

import functions
import runs
import videos
from functions import CNN3D, Dataset_3DCNN, select_frames

NAME = "Conv3D"  # of the output files
HERE = Path(__file__).resolve().parent
REPO = HERE.parent

# Every parameter is also a flag: --batch_size 16
PARAMETERS = dict(
    # paths
    data_path=(str(REPO / "UCF101" / "jpegs_256"), "folder of the videos, or a table (.csv) that names them"),
    action_name_path=(str(REPO / "UCF101actions.pkl"), "action names: a text file, a pickled list, or none: "
                      "the actions found"),
    save_model_path=(str(HERE / "model_ckpt"), "folder for checkpoints, curves and histories"),
    # data
    split=("random", "test videos: random, group, official1..3, given, or a text file that names them"),
    begin_frame=(1, "first frame of a clip, counted from 1"),
    end_frame=(29, "end of a clip; this frame is left out"),
    skip_frame=(1, "take every n-th frame"),
    clips=(1, "clips spread over a video; training draws one of them, the test averages all"),
    input=("frames", "what the model sees: frames, differences between frames, or both, side by side",
           ("frames", "differences", "both")),
    cache_gb=(10, "keep all clips on disk if they take no more gigabytes than this; 0: never", 0),
    img_x=(256, "height to which frames are resized"),
    img_y=(342, "width to which frames are resized"),
    channels=(3, "3 reads colour, 1 reads grey", (1, 3)),
    # CNN3D
    fc_hidden1=(256, "nodes of the first linear layer"),
    fc_hidden2=(256, "nodes of the second linear layer"),
    # training
    augment=("none", "crop: random crops in training; crop_flip: also mirror", ("none", "crop", "crop_flip")),
    dropout=(0.2, "dropout probability", 0),
    epochs=(15, "passes over the training videos"),
    batch_size=(30, "videos per step, on all GPUs together"),
    learning_rate=(1e-4, "learning rate of Adam"),
    lr_schedule=("constant", "cosine: short warm-up, then down to 0", ("constant", "cosine")),
    start_from=("none", "a checkpoint of this model: its weights are taken before training, where they fit"),
    seed=(42, "seed of the split, initial weights, order of videos, clips, crops and dropout", 0),
    log_interval=(10, "steps between updates of the loss in the progress bar"),
    num_workers=(cpu_count(), "processes that read videos", 0),
    resume=(False, "continue from the last checkpoint in save_model_path, if there is one"),
    keep_all_epochs=(False, "keep the checkpoints of all epochs, not only the best and the last"),
    demo=(False, "train a small model on small videos that the script makes"),
    few_videos=(False, "for up to some hundred videos of your own: use FEW_VIDEOS instead of these defaults; "
                "other flags still win"),
)
DEMO = dict(
    data_path=str(REPO / "UCF101" / "demo" / "jpegs"),
    action_name_path="none",
    save_model_path=str(HERE / "model_ckpt_demo"),
    split="group", end_frame=11, img_x=40, img_y=40, epochs=12, batch_size=16, learning_rate=2e-4,
)
FEW_VIDEOS = dict(
    action_name_path="none", split="group", end_frame=17, clips=5, img_x=64, img_y=64, input="both",
    augment="crop", epochs=60, batch_size=10, learning_rate=3e-4, lr_schedule="cosine",
)


def build_model(args, num_classes: int) -> CNN3D:
    return CNN3D(t_dim=len(select_frames(args)), img_x=args.img_x, img_y=args.img_y, drop_p=args.dropout,
                 fc_hidden1=args.fc_hidden1, fc_hidden2=args.fc_hidden2, num_classes=num_classes,
                 in_channels=args.channels * (2 if args.input == "both" else 1), input=args.input)


def make_dataset(args, videos: list) -> Dataset_3DCNN:
    return Dataset_3DCNN(videos, select_frames(args), args.img_x, args.img_y, args.channels, args.clips,
                         args.input)


def main():
    args = runs.parse_args(__doc__, PARAMETERS, DEMO, FEW_VIDEOS)
    device = runs.get_device()
    if args.demo:
        videos.make_demo_data(args.data_path)
    data = videos.load_videos(args)
    record = data.record  # of the data, for the checkpoints
    with runs.open_output_folder(args, NAME), functions.name_unreadable_videos(args, data.train + data.test):
        torch.manual_seed(args.seed)
        model = runs.parallelize(build_model(args, len(data.action_names)), device)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=args.learning_rate, fused=True)
        history = runs.resume_training(args, PARAMETERS, NAME, model, optimizer, record)

        datasets = [make_dataset(args, side) for side in (data.train, data.test)]
        train_set, test_set = functions.keep_arrays(args, model, device, datasets)  # decodes each video once
        train_loader = functions.make_loader(train_set, args, shuffle=True)
        test_loader = functions.make_loader(test_set, args, shuffle=False)
        for epoch in range(len(history["test_loss"]), args.epochs):
            started = time.time()
            train_loader.sampler.set_epoch(epoch)  # the order of the videos, and the clip drawn of each
            # each returns loss and accuracy
            train = functions.train_one_epoch(model, device, train_loader, optimizer, epoch, args)
            test = functions.evaluate(model, device, test_loader, args.clips)
            runs.add_epoch(args, history, train, test, started)
            runs.save_epoch(args, NAME, model, optimizer, history, record)
    runs.print_outcome(args, NAME, history, record, data.chance)


if __name__ == "__main__":
    runs.run(main)
