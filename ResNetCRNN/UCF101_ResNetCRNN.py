"""Train and test ResNet-152 + LSTM on UCF101.

    python ResNetCRNN/UCF101_ResNetCRNN.py --demo                small demo data
    python ResNetCRNN/UCF101_ResNetCRNN.py --data_path UCF-101   the .avi files
    python ResNetCRNN/UCF101_ResNetCRNN.py --resume              go on
    torchrun --nproc_per_node 2 ResNetCRNN/UCF101_ResNetCRNN.py  on two GPUs

The ResNet encodes every frame, the LSTM reads the sequence. The ResNet is
frozen, so its features of a clip never change: they are computed once and
kept in save_model_path.
"""
import time
from pathlib import Path

import torch
from joblib import cpu_count  # comes with scikit-learn
from sklearn.preprocessing import LabelEncoder

from functions import (CRNN, SPLITS, Dataset_CRNN, DecoderRNN, FeatureDataset, ResCNNEncoder, cached_features,
                       evaluate, get_device, labels2cat, load_videos, make_demo_data, make_loader,
                       parallelize, parse_args, print_epoch, print_outcome, resume_training, run, save_epoch,
                       select_frames, train_one_epoch)

NAME = "ResNetCRNN"  # of the output files
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
    res_size=(224, "height and width to which frames are resized"),
    # ResCNNEncoder
    resnet_weights=("IMAGENET1K_V1", "ResNet-152 weights: a name of torchvision's, a file, or none"),
    CNN_fc_hidden1=(1024, "nodes of the first linear layer behind the ResNet"),
    CNN_fc_hidden2=(768, "nodes of the second linear layer"),
    CNN_embed_dim=(512, "size of a frame's embedding"),
    # DecoderRNN
    RNN_hidden_layers=(3, "LSTM layers"),
    RNN_hidden_nodes=(512, "LSTM nodes a layer"),
    RNN_FC_dim=(256, "nodes of the linear layer behind it"),
    # training
    dropout=(0.3, "dropout probability"),
    epochs=(120, "times to train on every video"),
    batch_size=(40, "videos a step, over all GPUs"),
    learning_rate=(1e-3, "step size of Adam"),
    seed=(42, "of the split, the initial weights, the order of videos and dropout"),
    log_interval=(10, "steps between updates of the loss shown"),
    num_workers=(cpu_count(), "processes that read videos"),
    cache_features=(True, "train on the ResNet's features, computed once; else on frames, every epoch anew"),
    resume=(False, "go on from the last checkpoint in save_model_path, if there is one"),
    keep_all_epochs=(False, "keep every epoch's checkpoint, not only the best and the last"),
    demo=(False, "train a small model on small videos made on the spot"),
)
DEMO = dict(
    data_path=str(REPO / "UCF101" / "demo" / "jpegs"),
    action_name_path=str(REPO / "UCF101" / "demo" / "actions.pkl"),
    save_model_path=str(HERE / "model_ckpt_demo"),
    split="group", end_frame=11, res_size=40, CNN_fc_hidden1=256, CNN_fc_hidden2=256,
    CNN_embed_dim=128, RNN_hidden_layers=1, RNN_hidden_nodes=128, dropout=0.0,
    epochs=40, batch_size=8, learning_rate=5e-4,
    resnet_weights="none",  # nothing is downloaded; the demo is learnt on a random ResNet's features, too
)


def build_model(args, num_classes: int) -> CRNN:
    encoder = ResCNNEncoder(weights=args.resnet_weights,
                            fc_hidden1=args.CNN_fc_hidden1, fc_hidden2=args.CNN_fc_hidden2,
                            drop_p=args.dropout, CNN_embed_dim=args.CNN_embed_dim)
    decoder = DecoderRNN(CNN_embed_dim=args.CNN_embed_dim, h_RNN_layers=args.RNN_hidden_layers,
                         h_RNN=args.RNN_hidden_nodes, h_FC_dim=args.RNN_FC_dim, drop_p=args.dropout,
                         num_classes=num_classes)
    return CRNN(encoder, decoder)


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

    # clips: float16 features (T, 2048), or uint8 (T, 3, H, W)
    frames, num_workers = select_frames(args), args.num_workers
    if args.cache_features:
        features, num_workers = cached_features(args, model, train_videos + test_videos, device), 0
        train_set = FeatureDataset(features, train_videos, train_labels)
        test_set = FeatureDataset(features, test_videos, test_labels)
    else:
        train_set = Dataset_CRNN(train_videos, train_labels, frames, args.res_size, args.res_size)
        test_set = Dataset_CRNN(test_videos, test_labels, frames, args.res_size, args.res_size)
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
