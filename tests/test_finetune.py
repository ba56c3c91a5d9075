"""The training script: bad folders are named, a stopped run goes on, two processes equal one, results can be used."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lessons_lib.data.photos import open_picture
from lessons_lib.finetune import script
from lessons_lib.finetune.folder import Views, read_folder
from lessons_lib.finetune.script import BEST, LAST, Options, load, main, train
from lessons_lib.methods.transfer import Probe

# little pictures and a frozen body: what is tested is not how well it learns
FAST = Options(size=32, epochs=3, batch_size=4, learning_rate=1e-2, freeze="blocks.5", valid_share=0.34)


@pytest.fixture
def data(tmp_path):
    """Six reddish and six bluish pictures, one folder each."""
    for label, (name, colour) in enumerate({"blue": (20, 40, 200), "red": (210, 40, 20)}.items()):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(6):
            shade = tuple(min(255, channel + 8 * i + label) for channel in colour)
            Image.new("RGB", (40 + i, 36), shade).save(tmp_path / "data" / name / f"{i}.png")
    return tmp_path / "data"


def quiet(data, out, options=FAST):
    return train(data, out, options, progress=False)


def weights(out):
    return torch.load(out / LAST, weights_only=True)["model"]


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


# ---------------------------------------------------------------- folders


def test_a_folder_is_divided_class_by_class(data):
    folder = read_folder(data, valid_share=0.34, progress=False)
    assert folder.classes == ("blue", "red")
    assert [label for _, label in folder.train] == [0] * 4 + [1] * 4
    assert [label for _, label in folder.valid] == [0] * 2 + [1] * 2
    assert {p for p, _ in folder.train}.isdisjoint(p for p, _ in folder.valid)
    assert all((data / path).exists() for path, _ in folder.train)
    assert folder == read_folder(data, valid_share=0.34, progress=False)
    assert folder != read_folder(data, valid_share=0.34, seed=1, progress=False)
    assert not folder.skipped


@pytest.mark.parametrize(
    ("name", "train_name"),
    [
        *[("val", "train"), ("valid", "train"), ("test", "train")],
        *[("Test", "Train"), ("VALIDATION", "TRAIN"), ("testing", "training"), ("dev", "train")],
    ],
)
def test_a_division_that_is_there_is_kept(data, name, train_name):
    root = data.parent / "divided"
    root.mkdir()
    data.rename(root / train_name)
    for label in ("blue", "red"):
        (root / name / label).mkdir(parents=True)
        (root / train_name / label / "0.png").rename(root / name / label / "0.png")
    folder = read_folder(root, progress=False)
    assert folder.classes == ("blue", "red")
    assert (len(folder.train), len(folder.valid)) == (10, 2)
    assert folder.valid[0] == (f"{name}/blue/0.png", 0)
    (root / name / "green").mkdir()
    with pytest.raises(ValueError, match=r"classes of .*differ"):
        read_folder(root, progress=False)


@pytest.mark.parametrize("name", ["train", "Train", "test", "dev"])
def test_half_of_a_division_is_not_taken_for_a_class(data, name):
    root = data.parent / "divided"
    (root / "unlabelled" / "more").mkdir(parents=True)
    for i in range(2):
        Image.new("RGB", (8, 8)).save(root / "unlabelled" / f"{i}.png")
    data.rename(root / name)
    with pytest.raises(
        ValueError, match=rf"{name} looks like one part of a divided set.*or give .*{name} itself"
    ):
        read_folder(root, progress=False)
    assert read_folder(root / name, progress=False).classes == ("blue", "red")


def test_flat_folders_of_a_division_are_not_taken_for_classes(data):
    """As in Kaggle's "Dogs vs. Cats", where the file names say the class."""
    (data / "red").rename(data / "train")
    (data / "blue").rename(data / "test")
    with pytest.raises(ValueError, match=r"train must hold a folder for each class.*there is none"):
        read_folder(data, progress=False)


def test_a_class_may_be_called_train(data):
    (data / "red").rename(data / "train")
    (data / "train" / "2021").mkdir()
    assert read_folder(data, progress=False).classes == ("blue", "train")


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "__MACOSX", "@eaDir", "more/.thumbnails"])
@pytest.mark.parametrize("where", ["", "red"])
def test_copies_that_a_computer_makes_are_no_pictures_and_no_class(data, hidden, where):
    expected = read_folder(data, progress=False)
    (data / where / hidden).mkdir(parents=True)
    (data / where / hidden / "0-checkpoint.png").write_bytes((data / "red" / "0.png").read_bytes())
    if hidden.startswith("more") and not where:
        (data / "more").rename(data / "red" / "more")
    assert read_folder(data, progress=False) == expected


def test_a_folder_named_like_a_picture_and_an_empty_file(data):
    expected = read_folder(data, progress=False)
    (data / "red" / "folder.jpg").mkdir()
    (data / "red" / "empty.jpg").touch()
    found = read_folder(data, progress=False)
    assert (found.train, found.valid) == (expected.train, expected.valid)
    assert found.skipped == ("red/empty.jpg: no picture: its contents match no known format",)


def test_links_to_pictures_count_and_links_to_folders_are_named(data):
    for path in (data / "red" / "linked.png", data / "red" / "more", data / "red" / "gone.png"):
        path.symlink_to({"linked": data / "blue" / "0.png", "more": data}.get(path.stem, data / "nowhere"))
    found = read_folder(data, progress=False)
    assert ("red/linked.png", 1) in found.train + found.valid
    assert len(found.train + found.valid) == 13
    reason = "a link to a folder, which is not followed, or to nothing"
    assert found.skipped == (f"red/gone.png: {reason}", f"red/more: {reason}")


def test_two_folders_to_learn_from(data):
    root = data.parent / "divided"
    for name in ("train", "Training", "val"):
        shutil.copytree(data, root / name)
    with pytest.raises(ValueError, match=r"train or .*Training: which is to be learned from"):
        read_folder(root, progress=False)


def test_pictures_that_are_learned_from_and_validated_on_are_told(data, tmp_path, capsys):
    assert read_folder(data, progress=False).twins == 0
    root = data.parent / "divided"
    for name in ("train", "val"):
        shutil.copytree(data, root / name)
    (root / "val" / "red" / "0.png").unlink()
    assert read_folder(root, progress=False).twins == 11
    quiet(root, tmp_path / "run", replace(FAST, epochs=1))
    assert "11 pictures are both learned from and validated on" in capsys.readouterr().out


def test_what_is_no_picture_is_skipped_with_a_reason(data):
    (data / "red" / "notes.txt").write_text("hello")
    (data / "red" / "imageNotFound.gif").write_bytes(b"GIF89a")
    (data / "red" / "cut.png").write_bytes((data / "red" / "0.png").read_bytes()[:60])
    (data / "red" / "page.jpg").write_text("<html>")
    (data / "red" / ".hidden").write_text("")
    folder = read_folder(data, progress=False)
    assert len(folder.train) + len(folder.valid) == 12
    reasons = dict(line.split(": ", 1) for line in folder.skipped)
    assert list(reasons) == ["red/cut.png", "red/imageNotFound.gif", "red/notes.txt", "red/page.jpg"]
    assert "damaged" in reasons["red/cut.png"]
    assert "not one of .jpg" in reasons["red/imageNotFound.gif"]
    assert "no picture" in reasons["red/page.jpg"]


def ruin(folder, what):
    if what == "no folder":
        return folder / "nowhere"
    if what == "no classes":
        (folder.parent / "empty").mkdir()
        return folder.parent / "empty"
    red = sorted((folder / "red").iterdir())
    if what == "one class":
        for path in red:
            path.unlink()
        (folder / "red").rmdir()
    if what == "one picture a class":
        for path in red[1:]:
            path.unlink()
    if what == "no readable picture":
        for path in red:
            path.write_text("<html>")
    if what == "an empty class":
        for path in red:
            path.unlink()
    return folder


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("no folder", "there is no folder"),
        ("no classes", "at least two.* there is none"),
        ("one class", "there is only 'blue'"),
        ("one picture a class", "class 'red' has a single picture: it needs two"),
        ("no readable picture", "class 'red' has no readable picture: red/0.png: no picture"),
        ("an empty class", "class 'red' has no readable picture: its folder is empty"),
    ],
)
def test_folders_that_cannot_be_used(data, what, text, capsys):
    root = ruin(data, what)
    with pytest.raises(ValueError, match=text):
        read_folder(root, progress=False)
    assert main(["--data", str(root), "--out", str(data.parent / "run")]) == 1
    assert capsys.readouterr().err.count("error: ") == 1
    assert not (data.parent / "run").exists()


def test_a_share_that_divides_nothing(data):
    for share in (0, 1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            read_folder(data, valid_share=share, progress=False)


@pytest.fixture(scope="module")
def lite0():
    return script.imagenet.load()


def test_a_view_depends_on_seed_epoch_and_picture_alone(data, lite0):
    files = read_folder(data, progress=False).train
    Image.effect_noise((60, 50), 90).convert("RGB").save(data / files[0][0])
    small = replace(lite0, size=32)
    views, others = (Views(data, files, small, random_crops=True, seed=s) for s in (3, 4))
    torch.manual_seed(5)
    first, label = views[0]
    expected = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), expected), "the global generator must be left alone"
    assert first.shape == (3, 32, 32)
    assert label == 0
    assert torch.equal(views[0][0], first)
    assert not torch.equal(others[0][0], first)
    views.epoch = 1
    assert not torch.equal(views[0][0], first)
    plain = Views(data, files, small)
    assert torch.equal(plain[0][0], small.prepare(open_picture(data / files[0][0])))


# ---------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run, with its data."""
    root = tmp_path_factory.mktemp("whole")
    generator = torch.Generator().manual_seed(0)
    for name, channel in {"blue": 2, "red": 0}.items():
        (root / "data" / name).mkdir(parents=True)
        for i in range(6):
            pixels = torch.randint(0, 60, (36, 40, 3), generator=generator, dtype=torch.uint8)
            pixels[..., channel] += 150 + 5 * i
            Image.fromarray(pixels.numpy()).save(root / "data" / name / f"{i}.png")
    return root, quiet(root / "data", root / "run")


def test_a_run_learns_and_keeps_its_best_epoch(whole):
    root, history = whole
    assert [epoch.epoch for epoch in history] == [1, 2, 3]
    assert history[-1].accuracy == 1
    best = max(history, key=lambda epoch: epoch.accuracy)
    network = load(root / "run")
    assert network.categories == ("blue", "red")
    assert (network.size, network.mean) == (32, (0.5, 0.5, 0.5))
    card = json.loads(script.safe_open(root / "run" / BEST, "pt").metadata()["card"])
    assert (card["epoch"], card["accuracy"]) == (best.epoch, best.accuracy)
    for name in ("blue", "red"):
        found, probability = network.top(open_picture(root / "data" / name / "0.png"), k=1)[0]
        assert found == name
        assert probability > 0.5
    assert not list((root / "run").glob("*.part"))


def test_the_probe_that_the_head_starts_as_is_reported(whole, tmp_path, capsys):
    root, _ = whole
    quiet(root / "data", tmp_path, replace(FAST, epochs=1))
    lines = capsys.readouterr().out.splitlines()
    start = next(line for line in lines if line.startswith("linear probe on frozen features"))
    folder = read_folder(root / "data", valid_share=0.34, progress=False)
    network = replace(script.imagenet.load(), size=32)
    features = []
    for files in (folder.train, folder.valid):
        images = torch.stack([image for image, _ in Views(root / "data", files, network)])
        with torch.no_grad():
            features.append(
                network.model.forward_head(network.model.forward_features(images), pre_logits=True)
            )
    labels = [torch.tensor([label for _, label in files]) for files in (folder.train, folder.valid)]
    expected = Probe("softmax").fit(features[0], labels[0]).accuracy(features[1], labels[1])
    assert start.endswith(f"{expected:.4f}")
    assert lines.index(start) < next(i for i, line in enumerate(lines) if line.startswith("epoch"))


def test_known_classes_begin_as_the_networks_own(whole, tmp_path, lite0, capsys):
    root, _ = whole
    options = replace(FAST, epochs=1, learning_rate=1e-12, known=("red=ladybug", "blue=peacock"))
    quiet(root / "data", tmp_path, options)
    lines = capsys.readouterr().out.splitlines()
    starts = [i for i, line in enumerate(lines) if "validation accuracy" in line]
    assert lines[starts[0]].startswith("linear probe")
    assert lines[starts[1]].startswith("ImageNet's head for these classes")
    rows = [lite0.categories.index(name) for name in ("peacock", "ladybug")]
    torch.testing.assert_close(
        load_file(tmp_path / BEST)["classifier.weight"], lite0.model.classifier.weight[rows]
    )
    folder = read_folder(root / "data", valid_share=0.34, progress=False)
    views = Views(root / "data", folder.valid, replace(lite0, size=32))
    images, labels = (
        torch.stack([image for image, _ in views]),
        torch.tensor([label for _, label in folder.valid]),
    )
    with torch.no_grad():
        right = (lite0.model(images)[:, rows].argmax(1) == labels).double().mean().item()
    assert lines[starts[1]].endswith(f"{right:.4f}")


@pytest.mark.parametrize(
    ("known", "text"),
    [
        (["red=ladybug"], "class for each folder once .blue=… red=….,"),
        (["red=ladybug", "blue"], "for each folder once"),
        (["red=ladybug", "blue=peacock", "red=tabby"], "for each folder once"),
        (["red=ladybug", "blue=pecock"], "no class 'pecock'; like it: peacock"),
        (["red=tabby", "blue=tabby"], "no two folders can be the same class"),
    ],
)
def test_known_classes_that_are_not(whole, tmp_path, known, text, capsys):
    command = ["--data", str(whole[0] / "data"), "--out", str(tmp_path / "run"), "--known", *known]
    assert main(command) == 1
    assert re.search(text, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="no class is known"):
        Options(from_scratch=True, known=tuple(known))


def test_from_scratch_nothing_of_the_source_is_left(whole, tmp_path, lite0, capsys):
    root, _ = whole
    options = replace(FAST, from_scratch=True, freeze=None, epochs=1)
    history = quiet(root / "data", tmp_path, options)
    said = capsys.readouterr().out
    assert "begins with random weights, all layers learn" in said
    assert "probe" not in said
    tuned, source = load_file(tmp_path / BEST), lite0.model.state_dict()
    assert not any(torch.equal(tuned[name], source[name]) for name in tuned if name.endswith("conv.weight"))
    assert not torch.equal(tuned["bn1.running_mean"], torch.zeros(32)), "its batch norms follow the pictures"
    assert quiet(root / "data", tmp_path / "again", options) == history, "its weights come from the seed"
    with pytest.raises(ValueError, match=r"do not freeze up to 'blocks\.5'"):
        Options(from_scratch=True, freeze="blocks.5")


def test_frozen_layers_are_those_of_the_source(whole, lite0):
    tuned = load_file(whole[0] / "run" / BEST)
    source = lite0.model.state_dict()
    body = [name for name in source if not name.startswith("classifier")]
    moved = [name for name in body if not torch.equal(source[name], tuned[name])]
    assert moved
    assert all(name.startswith(("blocks.6", "conv_head", "bn2")) for name in moved)
    assert not any("running" in name for name in moved)


class Killed(BaseException):
    """As good as a kill: nothing catches it."""


def killed_at(monkeypatch, call):
    """Kill the process at the given optimiser step."""
    left = [call]
    step = torch.optim.AdamW.step

    def stepping(self, *args, **kwargs):
        left[0] -= 1
        if not left[0]:
            raise Killed
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", stepping)


def test_killed_in_an_epoch_and_resumed(whole, tmp_path, monkeypatch):
    root, history = whole
    with monkeypatch.context() as patch:
        killed_at(patch, 4)  # two steps an epoch
        with pytest.raises(Killed):
            quiet(root / "data", tmp_path)
    kept = torch.load(tmp_path / LAST, weights_only=True)["history"]
    assert [row["epoch"] for row in kept] == [1]
    assert quiet(root / "data", tmp_path) == history
    assert same(weights(tmp_path), weights(root / "run"))
    with monkeypatch.context() as patch:
        killed_at(patch, 1)
        assert quiet(root / "data", tmp_path) == history, "a finished run must not train any more"


def test_a_full_disk_keeps_the_last_whole_epoch(whole, tmp_path, monkeypatch, capsys):
    root, _ = whole
    write, path_type = type(tmp_path).write_bytes, type(tmp_path)
    written = []

    def filling(self, content):
        written.append(self.name)
        if len(written) > 2 and self.name.startswith(LAST):
            write(self, content[:1000])
            raise OSError(28, "No space left on device")
        return write(self, content)

    arguments = [
        *["--size", "32", "--epochs", "3", "--batch-size", "4", "--learning-rate", "0.01"],
        "--data",
        str(root / "data"),
    ]
    arguments += [*["--freeze", "blocks.5", "--valid-share", "0.34"], "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(path_type, "write_bytes", filling)
        assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "error: " in said
    assert "No space left on device" in said
    assert "make room and run the same command again" in said
    assert not list((tmp_path / "run").glob("*.part"))
    assert len(torch.load(tmp_path / "run" / LAST, weights_only=True)["history"]) == 1
    assert main(arguments) == 0
    assert "last epoch 1.0000" in capsys.readouterr().out
    assert same(weights(tmp_path / "run"), weights(root / "run"))


def test_stopping_says_how_to_go_on(whole, tmp_path, monkeypatch, capsys):
    def press(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "head_from_probe", press)
    assert main(["--data", str(whole[0] / "data"), "--out", str(tmp_path), "--size", "32"]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_a_run_begun_otherwise_is_not_continued(whole, tmp_path):
    root, _ = whole
    with pytest.raises(ValueError, match="other learning_rate, seed"):
        quiet(root / "data", root / "run", replace(FAST, learning_rate=1e-3, seed=0.5))
    (tmp_path / LAST).write_bytes((root / "run" / LAST).read_bytes()[:500])
    with pytest.raises(ValueError, match="damaged, delete it"):
        quiet(root / "data", tmp_path)


def test_a_run_does_not_go_on_with_other_pictures_under_the_same_names(whole, tmp_path):
    root, _ = whole
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    data = tmp_path / "data"
    os.utime(data / "red" / "0.png", (0, 0))
    assert quiet(data, tmp_path / "run"), "a copy of the same pictures at another time is the same"
    (data / "red").rename(data / "swapped")
    (data / "blue").rename(data / "red")
    (data / "swapped").rename(data / "blue")
    with pytest.raises(ValueError, match="a run with other pictures and their labels"):
        quiet(data, tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_with_advice(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(script.F, "cross_entropy", lambda logits, labels: (logits * torch.nan).sum())
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        quiet(whole[0] / "data", tmp_path)
    assert not (tmp_path / BEST).exists()


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 0}, {"size": 16}])
def test_wrong_options(wrong):
    with pytest.raises(ValueError, match="at least"):
        Options(**wrong)


def test_pictures_are_named(whole, capsys):
    root, _ = whole
    red, missing = root / "data" / "red" / "1.png", root / "missing.png"
    assert main(["predict", str(root / "run"), str(red)]) == 0
    assert capsys.readouterr().out.startswith(f"{red}: red 0.")
    assert main(["predict", str(root / "run"), str(missing), str(red)]) == 1
    said = capsys.readouterr()
    assert f"{red}: red" in said.out, "one bad picture must not hide the others"
    assert "missing.png" in said.err


def test_predicting_without_a_run(whole, tmp_path, capsys):
    assert main(["predict", str(tmp_path), "x.png"]) == 1
    assert "holds no best.safetensors" in capsys.readouterr().err
    (tmp_path / BEST).write_bytes((whole[0] / "run" / BEST).read_bytes()[:400])
    with pytest.raises(ValueError, match="damaged"):
        load(tmp_path)


def test_two_processes_end_where_one_ends(whole, tmp_path):
    """Under torchrun, as on two machines: gloo between two processes, each with half of every batch."""
    root, history = whole
    child = (
        "import sys, torch\n"
        "from lessons_lib.finetune import script\n"
        "from pathlib import Path\n"
        "kept = []\n"
        "transfer = script.transfer\n"
        "script.transfer = lambda *a, **k: kept.append(transfer(*a, **k)) or kept[0]\n"
        "torch.set_num_threads(1)\n"
        "code = script.main(sys.argv[1:])\n"
        "import os\n"
        "torch.save(kept[0].state_dict(), Path(os.environ['KEEP']) / f\"{os.environ['RANK']}.pt\")\n"
        "sys.exit(code)\n"
    )
    (tmp_path / "child.py").write_text(child)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0"]
    command += ["--standalone", str(tmp_path / "child.py"), "--data", str(root / "data")]
    command += ["--out", str(tmp_path / "run"), "--size", "32", "--epochs", "3", "--batch-size", "4"]
    command += ["--learning-rate", "0.01", "--freeze", "blocks.5", "--valid-share", "0.34"]
    environment = os.environ | {"KEEP": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    for line in ("epoch  3", "last epoch", "1,000 ImageNet classes"):
        assert done.stdout.count(line) == 1, "only one process speaks"
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert same(first, second)
    assert same(first, weights(tmp_path / "run"))
    alone = weights(root / "run")
    assert all(torch.allclose(first[name], alone[name], atol=2e-3) for name in first)
    kept = torch.load(tmp_path / "run" / LAST, weights_only=True)["history"]
    assert [row["accuracy"] for row in kept] == [epoch.accuracy for epoch in history]
    assert [row["loss"] for row in kept] == pytest.approx([epoch.loss for epoch in history], abs=1e-3)


def test_a_batch_that_processes_cannot_share(whole, tmp_path, monkeypatch):
    class Three(script.Accelerator):
        num_processes = 3

    monkeypatch.setattr(script, "Accelerator", Three)
    with pytest.raises(ValueError, match="shared evenly by 3"):
        quiet(whole[0] / "data", tmp_path)
    with pytest.raises(ValueError, match="too few"):
        few = replace(FAST, batch_size=9, valid_share=0.8)
        quiet(whole[0] / "data", tmp_path, few)
