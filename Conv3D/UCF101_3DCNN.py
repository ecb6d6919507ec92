"""Train and test a 3D CNN on UCF101: a clip is an image with a third axis, time.

    python Conv3D/UCF101_3DCNN.py --demo                small demo data
    python Conv3D/UCF101_3DCNN.py --data_path UCF-101   the .avi files
    python Conv3D/UCF101_3DCNN.py --resume              go on
    torchrun --nproc_per_node 2 Conv3D/UCF101_3DCNN.py  on two GPUs
"""
import time
from pathlib import Path

import torch
from joblib import cpu_count  # comes with scikit-learn
from sklearn.preprocessing import LabelEncoder

from functions import (CNN3D, SPLITS, Dataset_3DCNN, evaluate, get_device, labels2cat, load_videos,
                       make_demo_data, make_loader, parallelize, parse_args, print_epoch, print_outcome,
                       resume_training, run, save_epoch, select_frames, train_one_epoch)

NAME = "Conv3D"  # of the output files
HERE = Path(__file__).resolve().parent
REPO = HERE.parent

# Every parameter is a flag, too: --batch_size 16
PARAMETERS = dict(
    # paths
    data_path=(str(REPO / "UCF101" / "jpegs_256"), "folder of the videos: frame folders or video files"),
    action_name_path=(str(REPO / "UCF101actions.pkl"), "the action names, a pickled list"),
    save_model_path=(str(HERE / "model_ckpt"), "folder for checkpoints, curves and histories"),
    # data
    split=("random", "how to divide training and test videos", SPLITS),
    begin_frame=(1, "first frame of a clip, counted from 1"),
    end_frame=(29, "frame at which a clip ends, not taken"),
    skip_frame=(1, "take every n-th frame"),
    img_x=(256, "height to which frames are resized"),
    img_y=(342, "width to which frames are resized"),
    channels=(3, "3 reads colour, 1 reads grey", (1, 3)),
    # CNN3D
    fc_hidden1=(256, "nodes of the first linear layer"),
    fc_hidden2=(256, "nodes of the second linear layer"),
    # training
    dropout=(0.2, "dropout probability"),
    epochs=(15, "times to train on every video"),
    batch_size=(30, "videos a step, over all GPUs"),
    learning_rate=(1e-4, "step size of Adam"),
    seed=(42, "of the split, the initial weights, the order of videos and dropout"),
    log_interval=(10, "steps between updates of the loss shown"),
    num_workers=(cpu_count(), "processes that read videos"),
    resume=(False, "go on from the last checkpoint in save_model_path, if there is one"),
    keep_all_epochs=(False, "keep every epoch's checkpoint, not only the best and the last"),
    demo=(False, "train a small model on small videos made on the spot"),
)
DEMO = dict(
    data_path=str(REPO / "UCF101" / "demo" / "jpegs"),
    action_name_path=str(REPO / "UCF101" / "demo" / "actions.pkl"),
    save_model_path=str(HERE / "model_ckpt_demo"),
    split="group", end_frame=11, img_x=40, img_y=40, epochs=12, batch_size=16, learning_rate=2e-4,
)


def build_model(args, num_classes: int) -> CNN3D:
    return CNN3D(t_dim=len(select_frames(args)), img_x=args.img_x, img_y=args.img_y, drop_p=args.dropout,
                 fc_hidden1=args.fc_hidden1, fc_hidden2=args.fc_hidden2, num_classes=num_classes,
                 in_channels=args.channels)


def main():
    args = parse_args(__doc__, PARAMETERS, DEMO)
    device = get_device()
    if args.demo:
        make_demo_data(args.data_path, args.action_name_path)

    # data
    train_videos, test_videos, action_names = load_videos(args)
    label_encoder = LabelEncoder().fit(action_names)
    train_labels = labels2cat(label_encoder, [video.action for video in train_videos])
    test_labels = labels2cat(label_encoder, [video.action for video in test_videos])

    # model and optimizer
    torch.manual_seed(args.seed)
    model = parallelize(build_model(args, len(action_names)), device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=args.learning_rate, fused=True)
    history = resume_training(args, NAME, model, optimizer, action_names, test_videos)

    # clips: uint8 (C, T, H, W)
    frames, num_workers = select_frames(args), args.num_workers
    train_set = Dataset_3DCNN(train_videos, train_labels, frames, args.img_x, args.img_y, args.channels)
    test_set = Dataset_3DCNN(test_videos, test_labels, frames, args.img_x, args.img_y, args.channels)
    train_loader = make_loader(train_set, args, shuffle=True, num_workers=num_workers)
    test_loader = make_loader(test_set, args, shuffle=False, num_workers=num_workers)

    for epoch in range(len(history["test_loss"]), args.epochs):
        started = time.time()
        train_loss, train_score = train_one_epoch(model, device, train_loader, optimizer, epoch, args)
        test_loss, test_score = evaluate(model, device, test_loader)
        for key, value in zip(history, (train_loss, train_score, test_loss, test_score)):
            history[key].append(value)
        print_epoch(args, history, started)
        save_epoch(args, NAME, model, optimizer, history, action_names, test_videos)
    print_outcome(args, NAME, history)


if __name__ == "__main__":
    run(main)
