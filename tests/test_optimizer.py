"""Muon for kernels, AdamW for the rest, as one optimiser that resumes."""

import pytest
import torch
from torch import nn

from sbitools.seeds import initial_weights, normal
from sbitools.training import TrainingOptions, run_training
from sbitools.training.optimizer import Muon, make_optimizer, orthogonalised

X = normal(range(8), (2, 8, 8))
Y = X.roll(1, -1) - 0.5 * X.flip(1)


def network():
    with initial_weights(3):
        return nn.Sequential(
            nn.Conv2d(2, 24, 3, padding=1), nn.SiLU(), nn.Conv2d(24, 24, 3, padding=1), nn.SiLU(),
            nn.Conv2d(24, 2, 3, padding=1),
        )  # fmt: skip


def loss(module, batch, rng):
    x, y = batch
    return (module(x) - y).square().mean()


def run(path, stop_at=None, resume=False):
    net, count = network(), 0

    def value(module, batch, rng):
        nonlocal count
        count += module.training
        if count == stop_at:
            raise KeyboardInterrupt
        return loss(module, batch, rng)

    options = TrainingOptions(
        optimizer="muon", epochs=6, learning_rate=0.01, warmup_steps=2, checkpoint_seconds=0.0,
        batch_size=4,
    )  # fmt: skip
    run_training(
        net, value, lambda epoch, start: ((X[i::2], Y[i::2]) for i in range(start, 2)),
        lambda: iter([(X, Y)]), options, path, steps_per_epoch=2, resume=resume,
    )  # fmt: skip
    return net


def test_a_step_turns_every_direction_of_the_gradient_equally():
    net = network()
    kernel = net[2].weight
    before = kernel.detach().clone()
    optimizer = make_optimizer(net, "muon", rate=1e-3, decay=0.0)
    loss(net, (X, Y), None).backward()
    gradient = kernel.grad.detach().clone().view(24, -1)
    optimizer.step()
    moved = (before - kernel.detach()).view(24, -1) / (1e-3 * 0.2 * 216**0.5)
    left, sizes, right = torch.linalg.svd(gradient, full_matrices=False)
    along = left.T @ moved @ right.T
    strong = sizes > 0.02 * sizes[0]  # five iterations lift what is not smaller than this
    assert int(strong.sum()) > 12
    # The iteration leaves singular values within 0.68 and 1.21.
    found = along.diagonal()[strong]
    assert float(found.min()) > 0.6
    assert float(found.max()) < 1.3
    assert float(along[strong][:, strong].fill_diagonal_(0).abs().max()) < 0.15


@pytest.mark.parametrize(("rows", "columns", "rank"), [(24, 200, 24), (200, 24, 24), (40, 90, 7)])
def test_orthogonalising_is_newton_schulz_of_the_singular_values(rows, columns, rank):
    a, b = normal([1, 2], (rows * columns,), torch.float64)
    x = a[: rows * rank].view(rows, rank) @ b[: rank * columns].view(rank, columns)
    left, sizes, right = torch.linalg.svd(x, full_matrices=False)
    s = sizes / sizes.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    expected = left @ torch.diag(s) @ right
    torch.testing.assert_close(orthogonalised(x), expected, rtol=0, atol=1e-12)
    # Of directions that x does not have, float32 leaves 3.4445^5 times its rounding.
    torch.testing.assert_close(orthogonalised(x.float()).double(), expected, rtol=0, atol=1e-4)


def test_steps_are_those_of_pytorch():
    with initial_weights(3):
        ours = nn.Linear(40, 24, bias=False)
    ours.weight.data.copy_(normal([1], (24, 40))[0])
    theirs = nn.Parameter(ours.weight.detach().clone())
    start = theirs.detach().clone()
    mine = Muon(ours, 0.01, 0.1)
    other = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        ours.weight.grad, theirs.grad = (normal([10 + step], (24, 40))[0] for _ in range(2))
        mine.step()
        other.step()
    moved = theirs.detach() - start
    # Theirs rounds to bfloat16: 0.007. A momentum of 0.9 makes 0.044, no decay 0.6.
    apart = float((ours.weight.detach() - theirs.detach()).norm() / moved.norm())
    assert apart < 0.02


def test_small_matrices_and_biases_are_left_to_adamw():
    net = network()
    optimizer = Muon(net, 1e-3, 0.0)
    # The last kernel has two rows.
    assert [tuple(k.shape) for k in optimizer.kernels] == [(24, 2, 3, 3), (24, 24, 3, 3)]
    loss(net, (X, Y), None).backward()
    before = [p.detach().clone() for p in net.parameters()]
    optimizer.step()
    for old, new in zip(before, net.parameters(), strict=True):
        assert not torch.equal(old, new)
    optimizer.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_a_network_without_kernels_is_left_to_adamw():
    with initial_weights(3):
        net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    optimizer = Muon(net, 1e-3, 0.0)
    assert optimizer.kernels == []
    net(torch.ones(2, 4)).sum().backward()
    before = net[0].weight.detach().clone()
    optimizer.step()
    assert not torch.equal(net[0].weight, before)
    Muon(net, 1e-3, 0.0).load_state_dict(optimizer.state_dict())


def test_stacked_networks_are_no_matrix():
    net = nn.Module()
    net.stack = nn.Parameter(torch.ones(20, 4, 8))
    assert Muon(net, 1e-3, 0.0).kernels == []


def test_a_network_learns():
    net = network()
    optimizer = make_optimizer(net, "muon", 0.01, 0.0)
    for _ in range(80):
        optimizer.zero_grad()
        value = loss(net, (X, Y), None)
        value.backward()
        optimizer.step()
    assert float(value.detach()) < 0.1  # of a variance of 1.25


@pytest.mark.parametrize("stop_at", [2, 5, 8])
def test_a_run_that_is_cut_resumes_bit_for_bit(tmp_path, stop_at):
    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop_at=stop_at)
    again = run(tmp_path / "cut", resume=True)
    for old, new in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(old, new)


def test_threads_change_nothing_but_the_time():
    def steps(net, optimizer, n):
        for _ in range(n):
            optimizer.zero_grad()
            loss(net, (X, Y), None).backward()
            optimizer.step()

    whole = network()
    steps(whole, make_optimizer(whole, "muon", 1e-2, 0.1), 4)
    for before, after in ((1, 2), (2, 5), (5, 1)):
        first, second = network(), network()
        optimizer = make_optimizer(first, "muon", 1e-2, 0.1, before)
        steps(first, optimizer, 2)
        # A run may be taken up with more threads, or fewer.
        second.load_state_dict(first.state_dict())
        other = make_optimizer(second, "muon", 1e-2, 0.1, after)
        other.load_state_dict(optimizer.state_dict())
        steps(second, other, 2)
        expected = whole.state_dict()
        assert all(torch.equal(v, expected[k]) for k, v in second.state_dict().items())
