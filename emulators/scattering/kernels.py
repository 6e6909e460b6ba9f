"""Compiled loops of the scattering covariance: one map at a time, one thread.

Maps are rows of padded faces (see `layout`), so that every inner loop runs over contiguous
memory. The columns A of a level, all that is filtered there, exist for a block of cells only:
they are made, multiplied into the Gram matrices and forgotten, and made again for the gradient.

Blocks are whole: the last one runs over cells that are nowhere, where all weights are zero.
"""

# ruff: noqa: ANN001, ANN202  (numba infers the types)

from __future__ import annotations

import numpy as np

from emulators.compiled import compiled, lanes, load, store

from .layout import BLOCK

__all__ = ["backward", "coarsen", "moduli", "products", "refine"]


@compiled
def _filter(x, weights, shifts, start, out):
    """Filters `weights` (F, 9, cells) of a block of `x` (cells,): (F, block)."""
    s0, s1, s2, s3, s4, s5, s6, s7, s8 = shifts
    for i in range(0, BLOCK, lanes(x)):
        p = start + i
        x0, x1, x2 = load(x, p + s0), load(x, p + s1), load(x, p + s2)
        x3, x4, x5 = load(x, p + s3), load(x, p + s4), load(x, p + s5)
        x6, x7, x8 = load(x, p + s6), load(x, p + s7), load(x, p + s8)
        for f in range(len(weights)):
            y = load(weights, (f, 0, p)) * x0 + load(weights, (f, 1, p)) * x1
            y = y + load(weights, (f, 2, p)) * x2 + load(weights, (f, 3, p)) * x3
            y = y + load(weights, (f, 4, p)) * x4 + load(weights, (f, 5, p)) * x5
            y = y + load(weights, (f, 6, p)) * x6 + load(weights, (f, 7, p)) * x7
            store(y + load(weights, (f, 8, p)) * x8, out, (f, i))


@compiled
def _unfilter(up, weights, shifts, start, spread, gradient):
    """Adjoint of `_filter`: adds to `gradient` (cells,); `spread` (9, block) is scratch."""
    step = lanes(spread)
    for i in range(0, BLOCK, step):
        p = start + i
        u = load(up, (0, i))
        t0, t1, t2 = (
            load(weights, (0, 0, p)) * u, load(weights, (0, 1, p)) * u, load(weights, (0, 2, p)) * u
        )  # fmt: skip
        t3, t4, t5 = (
            load(weights, (0, 3, p)) * u, load(weights, (0, 4, p)) * u, load(weights, (0, 5, p)) * u
        )  # fmt: skip
        t6, t7, t8 = (
            load(weights, (0, 6, p)) * u, load(weights, (0, 7, p)) * u, load(weights, (0, 8, p)) * u
        )  # fmt: skip
        for f in range(1, len(weights)):
            u = load(up, (f, i))
            t0 = t0 + load(weights, (f, 0, p)) * u
            t1 = t1 + load(weights, (f, 1, p)) * u
            t2 = t2 + load(weights, (f, 2, p)) * u
            t3 = t3 + load(weights, (f, 3, p)) * u
            t4 = t4 + load(weights, (f, 4, p)) * u
            t5 = t5 + load(weights, (f, 5, p)) * u
            t6 = t6 + load(weights, (f, 6, p)) * u
            t7 = t7 + load(weights, (f, 7, p)) * u
            t8 = t8 + load(weights, (f, 8, p)) * u
        store(t0, spread, (0, i))
        store(t1, spread, (1, i))
        store(t2, spread, (2, i))
        store(t3, spread, (3, i))
        store(t4, spread, (4, i))
        store(t5, spread, (5, i))
        store(t6, spread, (6, i))
        store(t7, spread, (7, i))
        store(t8, spread, (8, i))
    for n in range(9):
        for i in range(0, BLOCK, step):
            p = start + shifts[n] + i
            store(load(gradient, p) + load(spread, (n, i)), gradient, p)


@compiled
def _fill(x, halo, source):
    """Copy pixels into the frames of the faces."""
    for k in range(x.shape[0]):
        row = x[k]
        for i in range(len(halo)):
            row[halo[i]] = row[source[i]]


@compiled
def _fold(x, halo, source):
    """Adjoint of `_fill`."""
    for k in range(x.shape[0]):
        row = x[k]
        for i in range(len(halo)):
            row[source[i]] += row[halo[i]]
            row[halo[i]] = 0


@compiled
def _starts(nside):
    """The first cells of the blocks: all pixels are between the first and the last frame."""
    width = nside + 2
    return range(width + 1, 12 * width * width - width - 1, BLOCK)


@compiled
def coarsen(x, smoother, shifts, nside, out):
    """Smooth and average 2 x 2: (K, cells) to (K, coarse cells), frames left alone."""
    width, half = nside + 2, nside // 2
    smooth = np.zeros((1, x.shape[1]), x.dtype)
    for k in range(x.shape[0]):
        for start in _starts(nside):
            _filter(x[k], smoother, shifts, start, smooth[:, start:])
        for face in range(12):
            for a in range(half):
                low = (face * width + 2 * a + 1) * width + 1
                to = (face * (half + 2) + a + 1) * (half + 2) + 1
                row, above = smooth[0, low:], smooth[0, low + width :]
                for b in range(half):
                    i = 2 * b
                    out[k, to + b] = (row[i] + row[i + 1] + above[i] + above[i + 1]) / 4


@compiled
def refine(gradient, smoother, shifts, nside, out):
    """Adjoint of `coarsen`: adds to `out` (K, cells)."""
    width, half = nside + 2, nside // 2
    fine = np.zeros((1, out.shape[1]), out.dtype)
    spread = np.empty((9, BLOCK), out.dtype)
    for k in range(gradient.shape[0]):
        for face in range(12):
            for a in range(half):
                low = (face * width + 2 * a + 1) * width + 1
                to = (face * (half + 2) + a + 1) * (half + 2) + 1
                row, above = fine[0, low:], fine[0, low + width :]
                for b in range(half):
                    i = 2 * b
                    row[i] = row[i + 1] = above[i] = above[i + 1] = gradient[k, to + b] / 4
        for start in _starts(nside):
            _unfilter(fine[:, start:], smoother, shifts, start, spread, out[k])


@compiled
def _gram(columns, g, mask, start, out):
    """Add the weighted products of a block: Re above and on the diagonal, Im below.

    `out` (K, K, lanes) holds sums over every lanes-th cell: they are added up in the end.
    """
    step, re, im = lanes(mask), 2 * g, 2 * g + 1
    for i in range(0, BLOCK, 4 * step):
        i1, i2, i3, p = i + step, i + 2 * step, i + 3 * step, start + i
        m0, m1 = load(mask, p), load(mask, p + step)
        m2, m3 = load(mask, p + 2 * step), load(mask, p + 3 * step)
        for k in range(len(columns)):
            a = columns[k]
            r0, r1 = m0 * load(a, (re, i)), m1 * load(a, (re, i1))
            r2, r3 = m2 * load(a, (re, i2)), m3 * load(a, (re, i3))
            j0, j1 = m0 * load(a, (im, i)), m1 * load(a, (im, i1))
            j2, j3 = m2 * load(a, (im, i2)), m3 * load(a, (im, i3))
            for other in range(k, len(columns)):
                b = columns[other]
                c0, c1, c2, c3 = (
                    load(b, (re, i)), load(b, (re, i1)), load(b, (re, i2)), load(b, (re, i3))
                )  # fmt: skip
                d0, d1, d2, d3 = (
                    load(b, (im, i)), load(b, (im, i1)), load(b, (im, i2)), load(b, (im, i3))
                )  # fmt: skip
                same = load(out, (k, other, 0)) + r0 * c0 + r1 * c1 + r2 * c2 + r3 * c3
                same = same + j0 * d0 + j1 * d1 + j2 * d2 + j3 * d3
                store(same, out, (k, other, 0))
                if other > k:
                    turned = load(out, (other, k, 0)) + r0 * d0 + r1 * d1 + r2 * d2 + r3 * d3
                    turned = turned - j0 * c0 - j1 * c1 - j2 * c2 - j3 * c3
                    store(turned, out, (other, k, 0))


@compiled
def _hermitian(slope, real, imag):
    """The matrix H of gradient columns H A, for the packed gradient `slope` (K, K) of <A^H A>."""
    for k in range(len(slope)):
        real[k, k], imag[k, k] = 2 * slope[k, k], 0
        for other in range(k + 1, len(slope)):
            real[k, other] = real[other, k] = slope[k, other]
            imag[k, other], imag[other, k] = -slope[other, k], slope[other, k]


@compiled
def _ungram(columns, g, mask, start, real, imag, out):
    """Add the gradient of a block's columns A: mask H A."""
    step, re, im = lanes(mask), 2 * g, 2 * g + 1
    for i in range(0, BLOCK, 4 * step):
        i1, i2, i3, p = i + step, i + 2 * step, i + 3 * step, start + i
        m0, m1 = load(mask, p), load(mask, p + step)
        m2, m3 = load(mask, p + 2 * step), load(mask, p + 3 * step)
        for k in range(len(columns)):
            r0 = r1 = r2 = r3 = j0 = j1 = j2 = j3 = columns.dtype.type(0) * m0
            for other in range(len(columns)):
                b, h, e = columns[other], real[k, other], imag[k, other]
                c, d = load(b, (re, i)), load(b, (im, i))
                r0, j0 = r0 + h * c - e * d, j0 + h * d + e * c
                c, d = load(b, (re, i1)), load(b, (im, i1))
                r1, j1 = r1 + h * c - e * d, j1 + h * d + e * c
                c, d = load(b, (re, i2)), load(b, (im, i2))
                r2, j2 = r2 + h * c - e * d, j2 + h * d + e * c
                c, d = load(b, (re, i3)), load(b, (im, i3))
                r3, j3 = r3 + h * c - e * d, j3 + h * d + e * c
            up = out[k]
            store(load(up, (re, i)) + m0 * r0, up, (re, i))
            store(load(up, (im, i)) + m0 * j0, up, (im, i))
            store(load(up, (re, i1)) + m1 * r1, up, (re, i1))
            store(load(up, (im, i1)) + m1 * j1, up, (im, i1))
            store(load(up, (re, i2)) + m2 * r2, up, (re, i2))
            store(load(up, (im, i2)) + m2 * j2, up, (im, i2))
            store(load(up, (re, i3)) + m3 * r3, up, (re, i3))
            store(load(up, (im, i3)) + m3 * j3, up, (im, i3))


@compiled
def moduli(x, fields, first, weights, shifts, halo, source, masks, nside, means):
    """The moduli of one level.

    Args:
        x: (K, cells): fields and finer moduli in the first rows; this level's moduli are put
            into the rows from `first` on.
        fields: number of fields.
        first: row of the first new modulus.
        weights: (2 L, 9, cells) filters, real and imaginary parts in turn.
        shifts: distances of the nine neighbours.
        halo: cells of the frames.
        source: cells they repeat.
        masks: (R, cells) weights of the regions.
        nside: of the level.
        means: (R, L, fields) added to: means of the new moduli.
    """
    _fill(x[:first], halo, source)
    columns = np.empty((len(weights), BLOCK), x.dtype)
    for start in _starts(nside):
        for c in range(fields):
            _filter(x[c], weights, shifts, start, columns)
            for g in range(len(weights) // 2):
                row = x[first + g * fields + c, start:]
                real, imag = columns[2 * g], columns[2 * g + 1]
                for p in range(BLOCK):
                    row[p] = np.sqrt(real[p] * real[p] + imag[p] * imag[p])
                for r in range(len(masks)):
                    mask, total = masks[r, start:], x.dtype.type(0)
                    for p in range(BLOCK):
                        total += mask[p] * row[p]
                    means[r, g, c] += total
    _fill(x[first:], halo, source)


@compiled
def _unmoduli(x, fields, first, weights, shifts, masks, nside, slope, gradient):
    """Adjoint of `moduli`: adds to the first rows of `gradient`."""
    columns = np.empty((len(weights), BLOCK), x.dtype)
    spread = np.empty((9, BLOCK), x.dtype)
    for start in _starts(nside):
        for c in range(fields):
            _filter(x[c], weights, shifts, start, columns)
            for g in range(len(weights) // 2):
                row = x[first + g * fields + c, start:]
                up = gradient[first + g * fields + c, start:]
                real, imag = columns[2 * g], columns[2 * g + 1]
                for p in range(BLOCK):
                    total = up[p]
                    for r in range(len(masks)):
                        total += slope[r, g, c] * masks[r, start + p]
                    ratio = total / row[p] if row[p] > 0 else x.dtype.type(0)
                    real[p] *= ratio
                    imag[p] *= ratio
            _unfilter(columns, weights, shifts, start, spread, gradient[c])


@compiled
def products(x, weights, shifts, masks, nside, out):
    """Add the Gram matrices (R, L, K, K) of one level: all rows of `x` (K, cells), filtered."""
    columns = np.empty((len(x), len(weights), BLOCK), x.dtype)
    sums = np.zeros((*out.shape, lanes(x)), x.dtype)
    for start in _starts(nside):
        for k in range(len(x)):
            _filter(x[k], weights, shifts, start, columns[k])
        for r in range(out.shape[0]):
            for g in range(out.shape[1]):
                _gram(columns, g, masks[r], start, sums[r, g])
    for r in range(out.shape[0]):
        for g in range(out.shape[1]):
            for k in range(len(x)):
                for other in range(len(x)):
                    out[r, g, k, other] += sums[r, g, k, other].sum()


@compiled
def _unproducts(x, weights, shifts, masks, nside, slope, gradient):
    """Adjoint of `products`: adds to `gradient` (K, cells)."""
    columns = np.empty((len(x), len(weights), BLOCK), x.dtype)
    up = np.empty_like(columns)
    spread = np.empty((9, BLOCK), x.dtype)
    real, imag = np.empty(slope.shape, x.dtype), np.empty(slope.shape, x.dtype)
    for r in range(slope.shape[0]):
        for g in range(slope.shape[1]):
            _hermitian(slope[r, g], real[r, g], imag[r, g])
    for start in _starts(nside):
        up[:] = 0
        for k in range(len(x)):
            _filter(x[k], weights, shifts, start, columns[k])
        for r in range(slope.shape[0]):
            for g in range(slope.shape[1]):
                _ungram(columns, g, masks[r], start, real[r, g], imag[r, g], up)
        for k in range(len(x)):
            _unfilter(up[k], weights, shifts, start, spread, gradient[k])


@compiled
def backward(
    x, fields, first, weights, shifts, halo, source, masks, nside, means, grams, gradient
):  # fmt: skip
    """Adjoint of `moduli` and `products` at `x`: adds to `gradient` (K, cells)."""
    _unproducts(x, weights, shifts, masks, nside, grams, gradient)
    _fold(gradient, halo, source)
    _unmoduli(x, fields, first, weights, shifts, masks, nside, means, gradient)
    _fold(gradient[:fields], halo, source)
