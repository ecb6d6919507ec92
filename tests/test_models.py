"""The models: names, counts and shapes are the published ones; what makes them fast changes no number."""
import copy

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import resnet152

import functions
from functions import CNN3D, CRNN, DecoderRNN, EncoderCNN, Features, ResCNNEncoder
from runs import InputError


def count(model, trained_only=False):
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trained_only)


@pytest.fixture(scope="module")
def resnet_encoder():
    torch.manual_seed(0)
    return ResCNNEncoder(1024, 768, 0.3, 512, weights="none")


def test_parameter_counts_are_the_published_ones(resnet_encoder):
    with torch.device("meta"):  # sizes without memory
        assert count(CNN3D(28, 256, 342, 0.2, 256, 256, 101)) == 320_125_237
        assert count(CNN3D(28, 256, 342, 0.2, 256, 256, 101, in_channels=1)) == 320_117_237
        assert count(EncoderCNN(256, 342, 1024, 768, 0.3, 512)) == 74_973_184
        assert count(DecoderRNN(512, 3, 512, 256, 0.3, 101)) == 6_461_029
    assert count(resnet_encoder) == 61_426_496
    assert count(resnet_encoder, trained_only=True) == 3_282_688


def test_parameter_names_are_the_published_ones(resnet_encoder):
    names = set(CNN3D(9, 9, 9, 0, 4, 4, 3).state_dict())
    assert {n.split(".")[0] for n in names} == {"conv1", "bn1", "conv2", "bn2", "fc1", "fc2", "fc3"}
    names = set(EncoderCNN(33, 33, 4, 4, 0, 4).state_dict())
    assert {"conv1.0.weight", "conv1.1.running_mean", "conv4.0.bias", "fc3.weight"} <= names
    assert {n.split(".")[0] for n in names} == {"conv1", "conv2", "conv3", "conv4", "fc1", "fc2", "fc3"}
    names = set(resnet_encoder.state_dict())
    assert {"resnet.0.weight", "resnet.4.0.conv1.weight", "resnet.7.2.bn3.running_var", "bn2.weight"} <= names
    assert {n.split(".")[0] for n in names} == {"resnet", "fc1", "bn1", "fc2", "bn2", "fc3"}
    assert {n.split(".")[0] for n in DecoderRNN().state_dict()} == {"LSTM", "fc1", "fc2"}
    crnn = CRNN(EncoderCNN(33, 33, 4, 4, 0, 4), DecoderRNN(4, 1, 4, 4, 0, 3))
    assert {n.split(".")[0] for n in crnn.state_dict()} == {"encoder", "decoder"}


def test_shapes(resnet_encoder):
    clip = torch.randint(256, (2, 10, 3, 49, 56), dtype=torch.uint8)
    assert EncoderCNN(49, 56, CNN_embed_dim=7)(clip).shape == (2, 10, 7)
    assert CRNN(resnet_encoder, DecoderRNN())(clip).shape == (2, 101)
    assert CNN3D(10, 49, 56, num_classes=5)(clip.transpose(1, 2)).shape == (2, 5)


def frame_by_frame(encoder, clip):
    """The original's way: one call of the 2D CNN for each frame, on normalised float."""
    frames = []
    for t in range(clip.size(1)):
        x = clip[:, t]
        for conv in (encoder.conv1, encoder.conv2, encoder.conv3, encoder.conv4):
            x = conv(x)
        x = F.relu(encoder.fc2(F.relu(encoder.fc1(x.flatten(1)))))
        frames.append(encoder.fc3(x))
    return torch.stack(frames, dim=1)


def normalised(clip):
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (clip / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)


@pytest.mark.parametrize("mean, std", [((0.5,) * 3, (0.5,) * 3),
                                       (functions.IMAGENET_MEAN, functions.IMAGENET_STD)])
def test_differences_are_scaled_up_and_beside_them_frames_weigh_less(mean, std):
    clip = torch.randint(256, (2, 6, 5, 5), dtype=torch.uint8)
    frames = functions.Normalize(mean, std)(clip[:, :3])
    differences = functions.Normalize(mean, std, "differences")(clip[:, 3:])
    torch.testing.assert_close(differences, (clip[:, 3:] / 255 - 0.5) / 0.08)
    both, expected = functions.Normalize(mean, std, "both"), torch.cat([0.3 * frames, differences], dim=1)
    torch.testing.assert_close(both(clip), expected)
    torch.testing.assert_close(both(clip.unsqueeze(2)), expected.unsqueeze(2))  # as Conv3D has it


def test_the_encoder_equals_the_loop_over_frames_and_takes_bytes_as_well_as_floats():
    torch.manual_seed(0)
    encoder = EncoderCNN(64, 48)
    clip = torch.randint(256, (3, 6, 3, 64, 48), dtype=torch.uint8)
    encoder(clip)  # in training mode: give BatchNorm statistics that are not 0 and 1
    encoder.eval()
    with torch.no_grad():
        expected = frame_by_frame(encoder, normalised(clip))
        torch.testing.assert_close(encoder(clip), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(encoder(normalised(clip)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("all_steps_at_once", [False, True])  # as on a CPU, as on a GPU
def test_in_training_batchnorm_sees_and_keeps_what_it_does_in_the_loop_over_frames(
        all_steps_at_once, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "is_cuda", all_steps_at_once)
    torch.manual_seed(0)
    clip = torch.randint(256, (4, 28, 3, 64, 48), dtype=torch.uint8)
    encoder = EncoderCNN(64, 48, drop_p=0)
    loop = copy.deepcopy(encoder)
    for module in loop.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.01  # the original's, a frame
    with torch.no_grad():
        expected = frame_by_frame(loop, normalised(clip))
        torch.testing.assert_close(encoder(clip), expected, rtol=1e-4, atol=1e-5)
    buffers = dict(loop.named_buffers())
    assert sum("running" in name for name in buffers) == 8
    for name, buffer in encoder.named_buffers():  # the numbers of calls, too
        torch.testing.assert_close(buffer, buffers[name], rtol=1e-5, atol=1e-6, msg=name)


def test_behind_the_resnet_the_running_statistics_move_as_fast_as_in_the_loop(resnet_encoder):
    torch.manual_seed(0)
    features = torch.randn(16, 28, 2048)
    encoder = copy.deepcopy(resnet_encoder).train()
    loop = copy.deepcopy(encoder.bn1)
    loop.momentum = 0.01
    with torch.no_grad():
        encoder(features)
        for t in range(28):
            loop(encoder.fc1(features[:, t]))
    torch.testing.assert_close(encoder.bn1.running_mean, loop.running_mean, rtol=0.02, atol=5e-3)
    torch.testing.assert_close(encoder.bn1.running_var, loop.running_var, rtol=0.02, atol=0)


def test_frozen_resnet_gets_no_gradient_and_does_not_drift(resnet_encoder):
    model = CRNN(resnet_encoder, DecoderRNN(num_classes=3))
    before = {name: value.clone() for name, value in resnet_encoder.resnet.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()
    assert not resnet_encoder.resnet.training and resnet_encoder.bn1.training
    model(torch.randn(2, 2, 3, 32, 32)).sum().backward()
    optimizer.step()
    assert all(p.grad is None for p in resnet_encoder.resnet.parameters())
    assert resnet_encoder.fc1.weight.grad is not None
    assert all(torch.equal(before[name], value) for name, value in resnet_encoder.resnet.state_dict().items())


def test_features_and_frames_give_the_same(resnet_encoder):
    resnet_encoder.eval()
    clip = torch.randint(256, (2, 3, 3, 32, 32), dtype=torch.uint8)
    features = Features(resnet_encoder)(clip)
    assert features.shape == (2, 3, 2048) and not features.requires_grad
    with torch.no_grad():
        assert torch.equal(features, resnet_encoder.features(clip))
        expected = resnet_encoder(clip)
        torch.testing.assert_close(resnet_encoder(features), expected)
        torch.testing.assert_close(resnet_encoder(features.half()), expected, rtol=1e-2, atol=1e-2)  # as kept


@pytest.mark.parametrize("build, smallest", [
    (lambda n: CNN3D(n, n, n), 9),
    (lambda n: EncoderCNN(n, n), 33),
])
def test_the_smallest_frames_are_named_and_work(build, smallest):
    build(smallest)
    with pytest.raises(InputError, match=f"at least {smallest}x{smallest}"):
        build(smallest - 1)


def test_published_imagenet_weights_load_from_a_file_and_give_torchvisions_features(tmp_path):
    torch.manual_seed(0)
    resnet, clip = resnet152(weights=None).eval(), torch.randn(2, 3, 3, 64, 64, dtype=torch.double)
    torch.save(resnet.state_dict(), tmp_path / "resnet152.pth")  # the format of resnet152-394f9c45.pth
    encoder = ResCNNEncoder(8, 8, 0, 8, weights=str(tmp_path / "resnet152.pth")).eval().double()
    resnet.double().fc = torch.nn.Identity()
    with torch.no_grad():
        expected = resnet(clip.flatten(0, 1)).view(2, 3, 2048)
        torch.testing.assert_close(encoder.features(clip), expected, rtol=1e-8, atol=1e-8)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="does not fit this model"):
        functions.load_resnet152(str(tmp_path / "other.pth"))
    with pytest.raises(InputError, match="is neither a file nor one of IMAGENET1K_V1"):
        functions.load_resnet152("IMAGENET1K")
    with pytest.raises(InputError, match="no such file"):
        functions.load_resnet152(str(tmp_path))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs and TEST_ON_GPUS=1")
def test_data_parallel_equals_one_gpu():
    model = CRNN(EncoderCNN(40, 40), DecoderRNN()).cuda().eval()
    clip = torch.randint(256, (5, 4, 3, 40, 40), dtype=torch.uint8, device="cuda")
    with torch.no_grad():
        torch.testing.assert_close(torch.nn.DataParallel(model)(clip), model(clip), rtol=2e-2, atol=2e-2)
