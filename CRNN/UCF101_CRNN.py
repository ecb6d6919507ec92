"""Train and test a 2D CNN + LSTM on UCF101.

    python CRNN/UCF101_CRNN.py --demo                small demo data
    python CRNN/UCF101_CRNN.py --data_path UCF-101   the .avi files
    python CRNN/UCF101_CRNN.py --resume              go on
    torchrun --nproc_per_node 2 CRNN/UCF101_CRNN.py  on two GPUs

The CNN encodes every frame, the LSTM reads the sequence.
"""
import time
from pathlib import Path

import torch
from joblib import cpu_count  # comes with scikit-learn

from functions import (
    CRNN,
    Dataset_CRNN,
    DecoderRNN,
    EncoderCNN,
    add_epoch,
    check_output_folder,
    evaluate,
    get_device,
    load_videos,
    make_demo_data,
    make_loader,
    parallelize,
    parse_args,
    print_outcome,
    resume_training,
    run,
    save_epoch,
    select_frames,
    train_one_epoch,
    unreadable_videos_named,
)

NAME = "CRNN"  # of the output files
HERE = Path(__file__).resolve().parent
REPO = HERE.parent

# Every parameter is a flag, too: --batch_size 16
PARAMETERS = dict(
    # paths
    data_path=(str(REPO / "UCF101" / "jpegs_256"), "folder of the videos: files or folders of frames"),
    action_name_path=(str(REPO / "UCF101actions.pkl"), "the actions: a text file, a pickled list, or none: "
                      "those found"),
    save_model_path=(str(HERE / "model_ckpt"), "folder for checkpoints, curves and histories"),
    # data
    split=("random", "test videos: random, group, official1..3, folders, or a file that names them"),
    begin_frame=(1, "first frame of a clip, counted from 1"),
    end_frame=(29, "frame at which a clip ends, not taken"),
    skip_frame=(1, "take every n-th frame"),
    clips=(1, "clips spread over a video: one is drawn to train on, a test takes the mean of all"),
    img_x=(224, "height to which frames are resized"),
    img_y=(224, "width to which frames are resized"),
    # EncoderCNN
    CNN_fc_hidden1=(1024, "nodes of its first linear layer"),
    CNN_fc_hidden2=(768, "nodes of its second linear layer"),
    CNN_embed_dim=(512, "size of a frame's embedding"),
    # DecoderRNN
    RNN_hidden_layers=(3, "LSTM layers"),
    RNN_hidden_nodes=(512, "LSTM nodes a layer"),
    RNN_FC_dim=(256, "nodes of the linear layer behind it"),
    # training
    augment=("none", "crop training clips at random; crop_flip: also mirror", ("none", "crop", "crop_flip")),
    dropout=(0.3, "dropout probability", 0),
    epochs=(120, "times to train on every video"),
    batch_size=(30, "videos a step, over all GPUs"),
    learning_rate=(1e-4, "step size of Adam"),
    lr_schedule=("constant", "cosine: warm up shortly, then fall to 0", ("constant", "cosine")),
    seed=(42, "of the split, initial weights, order of videos, clips, crops and dropout", 0),
    log_interval=(10, "steps between updates of the loss shown"),
    num_workers=(cpu_count(), "processes that read videos", 0),
    resume=(False, "go on from the last checkpoint in save_model_path, if there is one"),
    keep_all_epochs=(False, "keep every epoch's checkpoint, not only the best and the last"),
    demo=(False, "train a small model on small videos made on the spot"),
)
DEMO = dict(
    data_path=str(REPO / "UCF101" / "demo" / "jpegs"),
    action_name_path=str(REPO / "UCF101" / "demo" / "actions.pkl"),
    save_model_path=str(HERE / "model_ckpt_demo"),
    split="group", end_frame=11, img_x=40, img_y=40, CNN_fc_hidden1=256, CNN_fc_hidden2=256,
    CNN_embed_dim=128, RNN_hidden_layers=1, RNN_hidden_nodes=128, dropout=0.0,
    epochs=12, batch_size=16, learning_rate=5e-4,
)


def build_model(args, num_classes: int) -> CRNN:
    encoder = EncoderCNN(img_x=args.img_x, img_y=args.img_y,
                         fc_hidden1=args.CNN_fc_hidden1, fc_hidden2=args.CNN_fc_hidden2,
                         drop_p=args.dropout, CNN_embed_dim=args.CNN_embed_dim)
    decoder = DecoderRNN(CNN_embed_dim=args.CNN_embed_dim, h_RNN_layers=args.RNN_hidden_layers,
                         h_RNN=args.RNN_hidden_nodes, h_FC_dim=args.RNN_FC_dim, drop_p=args.dropout,
                         num_classes=num_classes)
    return CRNN(encoder, decoder)


def make_dataset(args, videos: list, model, device) -> Dataset_CRNN:
    """Clips, uint8 (T, 3, H, W), and class indices."""
    return Dataset_CRNN(videos, select_frames(args), args.img_x, args.img_y, clips=args.clips)


def main():
    args = parse_args(__doc__, PARAMETERS, DEMO)
    device = get_device()
    if args.demo:
        make_demo_data(args.data_path, args.action_name_path)
    data = load_videos(args)
    check_output_folder(args, NAME)

    torch.manual_seed(args.seed)
    model = parallelize(build_model(args, len(data.action_names)), device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=args.learning_rate, fused=True)
    history = resume_training(args, PARAMETERS, NAME, model, optimizer, data)

    with unreadable_videos_named(args, data.train + data.test):
        train_loader = make_loader(make_dataset(args, data.train, model, device), args, shuffle=True)
        test_loader = make_loader(make_dataset(args, data.test, model, device), args, shuffle=False)
        for epoch in range(len(history["test_loss"]), args.epochs):
            started = time.time()
            train_loader.sampler.set_epoch(epoch)  # the order of the videos, and the clip drawn of each
            train = train_one_epoch(model, device, train_loader, optimizer, epoch, args)  # loss, accuracy
            test = evaluate(model, device, test_loader, args.clips)
            add_epoch(args, history, train, test, started)
            save_epoch(args, NAME, model, optimizer, history, data)
    print_outcome(args, NAME, history, data)


if __name__ == "__main__":
    run(main)
