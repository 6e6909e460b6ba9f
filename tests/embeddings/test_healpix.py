"""HEALPix: neighbours, hierarchy, symmetries and masks against healpy's own tables."""

import copy

import healpy
import numpy as np
import pytest
import torch

from sbitools import FieldSpec
from sbitools.embeddings import HealpixCNN, build_embedding
from sbitools.embeddings.healpix import _RingConv
from sbitools.embeddings.sphere import Faces, face_order
from sbitools.errors import ConfigError, ObservationError
from sbitools.seeds import generator, normal


def to_faces(nested):
    """(B, C, n_pixels) nested to (B * 12, C, n, n)."""
    nside = healpy.npix2nside(nested.shape[-1])
    cells = nested[..., torch.from_numpy(face_order(nside))]
    return cells.view(*nested.shape[:2], 12, nside, nside).transpose(1, 2).flatten(0, 1)


def to_nested(faces):
    n = faces.shape[-1]
    cells = faces.view(-1, 12, *faces.shape[1:]).transpose(1, 2).flatten(2)
    return cells[..., torch.from_numpy(np.argsort(face_order(n)))]


def direct(conv, x, seen):
    """The ring filter by healpy's neighbour table, pixel by pixel, for nested x (B, C, pixels)."""
    nside = healpy.npix2nside(x.shape[-1])
    around = healpy.get_all_neighbours(nside, np.arange(x.shape[-1]), nest=True).T
    good = torch.from_numpy(around >= 0) & seen[around]
    values = x[..., np.maximum(around, 0)]
    # Edges: SW, NW, NE, SE. An unseen neighbour counts as the mean of its own seen neighbours, a
    # missing one as the mean of the pixel's other corners.
    mean = (values * good).sum(-1) / good.sum(-1).clamp(min=1)
    filled = torch.where(seen, x, mean)[..., np.maximum(around, 0)]
    exists = torch.from_numpy(around >= 0)
    corner = torch.tensor([False, True] * 4)
    rings = [x]
    for ring in (~corner, corner):
        chosen = exists & ring
        rings.append((filled * chosen).sum(-1) / chosen.sum(-1))
    out = torch.einsum("oar,rbap->bop", conv.rings, torch.stack(rings)) + conv.bias[:, None]
    slopes = [(filled[..., 4] - filled[..., 0]) / 2, (filled[..., 2] - filled[..., 6]) / 2]
    g = torch.einsum("oa,sbap->sbop", conv.gradient, torch.stack(slopes))
    return torch.cat([out, (g.square().sum(0) + 1e-6).sqrt()], dim=1)


@pytest.mark.parametrize("nside", [1, 2, 4, 8])
@pytest.mark.parametrize("masked", [False, True])
def test_filters_see_the_neighbours_of_healpy(seeded, nside, masked):
    pixels = 12 * nside**2
    conv, faces = seeded(lambda: _RingConv(3, 4, 2)), Faces(nside)
    seen = torch.ones(pixels, dtype=torch.bool)
    if masked:
        seen = torch.rand(pixels, generator=generator(5)) > 0.4
        faces.set_weights(seen[torch.from_numpy(face_order(nside))].float())
    x = normal([1, 2], (3, pixels)) * seen
    got = to_nested(conv(faces.pad(to_faces(x))))
    want = direct(conv, x, seen)
    torch.testing.assert_close(got[..., seen], want[..., seen], rtol=1e-5, atol=1e-5)


def test_24_pixels_have_seven_neighbours():
    assert len(Faces(8).corner_cells) == 24
    cells = torch.cat([Faces(8).corner_cells, Faces(8).halo_cells])
    assert len(cells) == len(cells.unique()) == 12 * (10**2 - 8**2)


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_of_the_padding_are_exact(masked):
    faces = Faces(2)
    if masked:
        faces.set_weights((torch.rand(48, generator=generator(1)) > 0.4).float())
    for name, table in faces.named_buffers():
        setattr(faces, name, table.double() if table.is_floating_point() else table)
    x = normal([3], (24, 2, 2, 2), torch.float64)[0].requires_grad_()
    assert torch.autograd.gradcheck(faces.pad, (x,))


def test_pooling_is_that_of_the_nested_hierarchy():
    seen = torch.rand(768, generator=generator(2)) > 0.7
    x = torch.where(seen, normal([4], (1, 768))[0], 0.0)
    faces = Faces(8)
    faces.set_weights(seen[torch.from_numpy(face_order(8))].float())
    got = to_nested(faces.pool(to_faces(x[None])))[0, 0].numpy()
    bad = np.where(seen.numpy(), x[0].numpy(), healpy.UNSEEN).astype(np.float64)
    want = healpy.ud_grade(bad, 4, order_in="NESTED", order_out="NESTED")
    known = want > healpy.UNSEEN / 2
    assert 0 < known.sum() < 192
    np.testing.assert_allclose(got[known], want[known], rtol=1e-5, atol=1e-5)
    mean, variance = faces.moments(to_faces(x[None]))
    torch.testing.assert_close(mean[0, 0], x[0, seen].mean())
    torch.testing.assert_close(variance[0, 0], x[0, seen].var(correction=0))


def moved(nside, theta_phi):
    """Ring pixel numbers of the image of each pixel centre under a map of the sphere."""
    theta, phi = healpy.pix2ang(nside, np.arange(12 * nside**2))
    return healpy.ang2pix(nside, *theta_phi(theta, phi))


@pytest.mark.parametrize("symmetry", [
    lambda theta, phi: (theta, phi + np.pi / 2),
    lambda theta, phi: (theta, -phi),
    lambda theta, phi: (np.pi - theta, phi),
], ids=["turned", "mirrored east-west", "mirrored north-south"])  # fmt: skip
def test_the_pixels_symmetries_leave_the_features_as_they_are(seeded, symmetry):
    net = seeded(lambda: HealpixCNN((2, 3072), 6, 8))
    x = normal(range(2), (2, 3072))
    image = x[..., moved(16, symmetry)]
    assert not torch.equal(x, image)
    torch.testing.assert_close(net(x), net(image), rtol=1e-4, atol=1e-5)
    shuffled = x[..., torch.randperm(3072, generator=generator(1))]
    assert float((net(x) - net(shuffled)).detach().abs().max()) > 1e-2


def test_ring_and_nested_maps_are_the_same_maps(seeded):
    ring = seeded(lambda: HealpixCNN((768,), 5, 4))
    nested = seeded(lambda: HealpixCNN((768,), 5, 4, ordering="nested"))
    x = normal(range(2), (768,))
    order = healpy.nest2ring(8, np.arange(768))
    assert torch.equal(ring(x), nested(x[:, order]))


def test_masked_pixels_are_never_read(seeded):
    seen = torch.rand(768, generator=generator(3)) > 0.3
    net = seeded(lambda: HealpixCNN((768,), 5, 4, mask=seen))
    x = normal(range(3), (768,))
    bad = x.clone()
    bad[0, ~seen], bad[1, ~seen], bad[2, ~seen] = torch.nan, healpy.UNSEEN, torch.inf
    assert torch.equal(net(x), net(bad))
    for value in (torch.nan, healpy.UNSEEN, -torch.inf):
        bad = x.clone()
        bad[1, seen.nonzero()[7]] = value
        with pytest.raises(ObservationError, match="mask step"):
            net(bad)


def test_a_mask_does_not_change_what_a_constant_map_says(seeded):
    """Filters renormalise exactly: no edge of the mask shows in a map without structure."""
    seen = torch.rand(768, generator=generator(3)) > 0.3
    whole = seeded(lambda: HealpixCNN((768,), 5, 4))
    part = seeded(lambda: HealpixCNN((768,), 5, 4, mask=seen))
    x = torch.full((1, 768), 1.7)
    torch.testing.assert_close(whole(x), part(x), rtol=1e-4, atol=1e-4)


def test_maps_may_have_masks_of_their_own(seeded):
    mask = torch.ones(2, 192, dtype=torch.bool)
    mask[0, :50], mask[:, 60:80] = False, False
    net = seeded(lambda: HealpixCNN((2, 192), 5, 4, mask=mask))
    x = normal(range(2), (2, 192))
    before = net(x)
    assert torch.equal(net(torch.where(mask, x, torch.nan)), before)
    x[0, 1, 10] += 3  # seen in the second map alone
    assert not torch.equal(net(x)[0], before[0])


def test_pixels_that_never_change_in_training_are_masked(seeded):
    x = 30 + 2 * normal(range(64), (192,))
    x[:, :40] = 7.0
    net = seeded(lambda: HealpixCNN((192,), 5, 4))
    net.set_scale(x.mean(0), x.std(0))
    assert not net.seen[0, :40].any()
    assert net.seen[0, 40:].all()
    assert float(net.mean) == pytest.approx(30, abs=0.1)
    assert float(net.std) == pytest.approx(2, rel=0.05)
    changed = x.clone()
    changed[:, :40] = -1e4
    assert torch.equal(net(x), net(changed))
    x[:, 99] = healpy.UNSEEN
    net.set_scale(x.mean(0), x.std(0))
    assert not net.seen[0, 99]
    x[::2, 100] = healpy.UNSEEN
    with pytest.raises(ObservationError, match="1 such pixels"):
        net.set_scale(x.mean(0), x.std(0))
    with pytest.raises(ObservationError, match="192 such pixels"):
        seeded(lambda: HealpixCNN((192,), 5, 4)).set_scale(x.mean(0) * torch.nan, x.std(0))


def test_the_mask_travels_with_the_weights(seeded):
    seen = torch.rand(192, generator=generator(3)) > 0.3
    net = seeded(lambda: HealpixCNN((192,), 5, 4, mask=seen))
    other = seeded(lambda: HealpixCNN((192,), 5, 4), seed=1)
    x = normal(range(2), (192,))
    assert not torch.equal(net(x), other(x))
    state = net.state_dict()
    assert not [k for k in state if k.startswith("faces") or k == "order"]  # tables are rebuilt
    other.load_state_dict(state)
    assert torch.equal(net(x), other(x))
    twin = copy.deepcopy(net)
    twin.load_state_dict(seeded(lambda: HealpixCNN((192,), 5, 4), seed=2).state_dict())
    assert not torch.equal(twin(x), net(x))


def test_every_weight_learns_and_the_scale_is_taken_out(seeded):
    net = seeded(lambda: HealpixCNN((3, 768), 5, 4), awake=False)
    x = normal(range(64), (3, 768))
    net.set_scale(x.mean(0), x.std(0))
    before = net(x)
    before.sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    factor = torch.tensor([1.0, 50.0, 3e4])[:, None]
    x = factor * (x + 5)
    net.set_scale(x.mean(0), x.std(0))
    torch.testing.assert_close(net(x), before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(100,), (12 * 24**2,), (2, 2, 48), (13,), (47,)])
def test_other_shapes_are_refused(shape):
    spec = FieldSpec("map", ("a", "b", "c")[: len(shape)], shape)
    with pytest.raises(ConfigError, match="power of 2"):
        build_embedding("healpix", spec, 4, 4)


@pytest.mark.parametrize("mask", [torch.zeros(48), torch.ones(49), torch.full((48,), torch.nan)])
def test_masks_that_do_not_fit_are_refused(mask):
    with pytest.raises(ConfigError, match="mask of a HEALPix"):
        HealpixCNN((48,), 4, 4, mask=mask)


def test_unknown_orderings_are_refused():
    with pytest.raises(ConfigError, match="'ring' or 'nested'"):
        HealpixCNN((48,), 4, 4, ordering="spiral")


def test_ordering_that_the_axis_names(seeded):
    nested, plain = (FieldSpec("sky", ("map", d), (2, 768)) for d in ("pixel_nested", "pixel"))
    by_name = seeded(lambda: build_embedding("auto", nested, 5, 4))
    stated = seeded(lambda: build_embedding("auto", plain, 5, 4, ordering="nested"))
    ring = seeded(lambda: build_embedding("auto", plain, 5, 4))
    x = torch.linspace(-1, 1, 2 * 768).view(1, 2, 768).sin()
    assert torch.equal(by_name(x), stated(x))
    assert not torch.equal(by_name(x), ring(x))
    with pytest.raises(ConfigError, match="pixel_nested"):
        build_embedding("auto", nested, 5, 4, ordering="ring")
