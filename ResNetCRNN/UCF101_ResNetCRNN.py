"""Train and test ResNet-152 + LSTM on UCF101.

    python ResNetCRNN/UCF101_ResNetCRNN.py --demo                small demo data
    python ResNetCRNN/UCF101_ResNetCRNN.py --data_path UCF-101   the .avi files
    python ResNetCRNN/UCF101_ResNetCRNN.py --resume              continue
    torchrun --nproc_per_node 2 ResNetCRNN/UCF101_ResNetCRNN.py  on two GPUs

The ResNet encodes every frame, the LSTM reads the sequence. The ResNet is
frozen, so its features of a clip never change: they are computed once and
kept in save_model_path.
"""
import time
from pathlib import Path

import torch
from joblib import cpu_count  # comes with scikit-learn

import functions
import runs
import videos
from functions import CRNN, Dataset_CRNN, DecoderRNN, ResCNNEncoder, select_frames

NAME = "ResNetCRNN"  # of the output files
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
    input=("frames", "what the model sees: frames, or differences between frames",
           ("frames", "differences")),  # not both: the ResNet takes three channels
    cache_gb=(10, "keep all clips on disk if they take no more gigabytes than this; 0: never", 0),
    res_size=(224, "height and width to which frames are resized"),
    # ResCNNEncoder
    resnet_weights=("IMAGENET1K_V1", "ResNet-152 weights: a name of torchvision's, a file, or none"),
    CNN_fc_hidden1=(1024, "nodes of the first linear layer after the ResNet"),
    CNN_fc_hidden2=(768, "nodes of the second linear layer"),
    CNN_embed_dim=(512, "embedding size of a frame"),
    # DecoderRNN
    RNN_hidden_layers=(3, "LSTM layers"),
    RNN_hidden_nodes=(512, "LSTM nodes per layer"),
    RNN_FC_dim=(256, "nodes of the linear layer after the LSTM"),
    # training
    augment=("none", "crop: random crops in training; crop_flip: also mirror", ("none", "crop", "crop_flip")),
    dropout=(0.3, "dropout probability", 0),
    epochs=(120, "passes over the training videos"),
    batch_size=(40, "videos per step, on all GPUs together"),
    learning_rate=(1e-3, "learning rate of Adam"),
    lr_schedule=("constant", "cosine: short warm-up, then down to 0", ("constant", "cosine")),
    start_from=("none", "a checkpoint of this model: its weights are taken before training, where they fit"),
    seed=(42, "seed of the split, initial weights, order of videos, clips, crops and dropout", 0),
    log_interval=(10, "steps between updates of the loss in the progress bar"),
    num_workers=(cpu_count(), "processes that read videos", 0),
    cache_features=(True, "compute the ResNet's features once and keep them"),
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
    split="group", end_frame=11, res_size=40, CNN_fc_hidden1=256, CNN_fc_hidden2=256,
    CNN_embed_dim=128, RNN_hidden_layers=1, RNN_hidden_nodes=128, dropout=0.0,
    epochs=40, batch_size=8, learning_rate=5e-4,
    resnet_weights="none",  # nothing is downloaded; the demo is learnt on a random ResNet's features, too
)
FEW_VIDEOS = dict(
    action_name_path="none", split="group", clips=5, epochs=60,
)


def build_model(args, num_classes: int) -> CRNN:
    encoder = ResCNNEncoder(weights=args.resnet_weights,
                            fc_hidden1=args.CNN_fc_hidden1, fc_hidden2=args.CNN_fc_hidden2,
                            drop_p=args.dropout, CNN_embed_dim=args.CNN_embed_dim, input=args.input)
    decoder = DecoderRNN(CNN_embed_dim=args.CNN_embed_dim, h_RNN_layers=args.RNN_hidden_layers,
                         h_RNN=args.RNN_hidden_nodes, h_FC_dim=args.RNN_FC_dim, drop_p=args.dropout,
                         num_classes=num_classes)
    return CRNN(encoder, decoder)


def make_dataset(args, videos: list) -> Dataset_CRNN:
    return Dataset_CRNN(videos, select_frames(args), args.res_size, args.res_size, clips=args.clips,
                        input=args.input)


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
