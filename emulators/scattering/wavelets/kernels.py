"""Compiled loops of the scattering covariance: one map at a time, one thread.

Maps are rows of padded faces (see `layout`), so that every inner loop runs over contiguous
memory. The columns A of a level, all that is filtered there, exist for a block of cells only:
they are made, multiplied into the Gram matrices and forgotten, and made again for the gradient.

Blocks are whole: the last one runs over cells that are nowhere, where all weights are zero.
"""

# Numba infers the types, and leaves out what is done only if an argument is not None.
# ruff: noqa: ANN001, ANN201, ANN202
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

import numpy as np

from emulators.compiled import compiled, lanes, load, store

__all__ = ["BLOCK", "backward", "coarsen", "moduli", "products", "refine"]

BLOCK = 64  # cells: a block's weights and columns stay in the L1 and L2 caches


@compiled
def _scratch(rows, columns, like):
    """An array (rows, columns, block) that vectors do not straddle: they load faster."""
    size = rows * columns * BLOCK
    out = np.empty(size + BLOCK, like.dtype)
    first = -(out.ctypes.data // out.itemsize) % BLOCK
    return out[first : first + size].reshape(rows, columns, BLOCK)


@compiled
def _filter(x, start, shifts, weights, at, out, y=None, out_y=None):
    """Filter a block of `x` (cells,), and of `y`, which costs less.

    Args:
        x: (cells,).
        start: first cell of the block.
        shifts: distances of the nine neighbours.
        weights: (F, 9, cells), those of the block from `at` on.
        at: where they begin.
        out: (F, block).
        y: another row, or None.
        out_y: its block.
    """
    s0, s1, s2, s3, s4, s5, s6, s7, s8 = shifts
    for i in range(0, BLOCK, lanes(x)):
        p = start + i
        x0, x1, x2 = load(x, p + s0), load(x, p + s1), load(x, p + s2)
        x3, x4, x5 = load(x, p + s3), load(x, p + s4), load(x, p + s5)
        x6, x7, x8 = load(x, p + s6), load(x, p + s7), load(x, p + s8)
        if y is not None:
            y0, y1, y2 = load(y, p + s0), load(y, p + s1), load(y, p + s2)
            y3, y4, y5 = load(y, p + s3), load(y, p + s4), load(y, p + s5)
            y6, y7, y8 = load(y, p + s6), load(y, p + s7), load(y, p + s8)
        for f in range(len(weights)):
            w, q = weights[f], at + i
            w0, w1, w2 = load(w, (0, q)), load(w, (1, q)), load(w, (2, q))
            w3, w4, w5 = load(w, (3, q)), load(w, (4, q)), load(w, (5, q))
            w6, w7, w8 = load(w, (6, q)), load(w, (7, q)), load(w, (8, q))
            z = w0 * x0 + w1 * x1 + w2 * x2 + w3 * x3 + w4 * x4
            store(z + w5 * x5 + w6 * x6 + w7 * x7 + w8 * x8, out, (f, i))
            if y is not None:
                z = w0 * y0 + w1 * y1 + w2 * y2 + w3 * y3 + w4 * y4
                store(z + w5 * y5 + w6 * y6 + w7 * y7 + w8 * y8, out_y, (f, i))


@compiled
def _columns(x, start, shifts, weights, at, out):
    """A block of all rows of `x` (K, cells), filtered: (K, F, block)."""
    for k in range(0, len(x) - 1, 2):
        _filter(x[k], start, shifts, weights, at, out[k], x[k + 1], out[k + 1])
    if len(x) % 2:
        _filter(x[-1], start, shifts, weights, at, out[-1])


@compiled
def _unfilter(up, start, shifts, weights, at, spread, gradient):
    """Adjoint of `_filter`: adds to `gradient` (cells,); `spread` (9, block) is scratch."""
    step = lanes(spread)
    for i in range(0, BLOCK, step):
        t0 = t1 = t2 = t3 = t4 = t5 = t6 = t7 = t8 = spread.dtype.type(0) * load(up, (0, i))
        for f in range(len(weights)):
            u, w, q = load(up, (f, i)), weights[f], at + i
            t0, t1 = t0 + load(w, (0, q)) * u, t1 + load(w, (1, q)) * u
            t2, t3 = t2 + load(w, (2, q)) * u, t3 + load(w, (3, q)) * u
            t4, t5 = t4 + load(w, (4, q)) * u, t5 + load(w, (5, q)) * u
            t6, t7 = t6 + load(w, (6, q)) * u, t7 + load(w, (7, q)) * u
            t8 = t8 + load(w, (8, q)) * u
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
            _filter(x[k], start, shifts, smoother, start, smooth[:, start:])
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
            _unfilter(fine[:, start:], start, shifts, smoother, start, spread, out[k])


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
            zero = columns.dtype.type(0) * m0
            r0 = r1 = r2 = r3 = j0 = j1 = j2 = j3 = zero
            s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = zero
            for other in range(len(columns)):
                b, h, e = columns[other], real[k, other], imag[k, other]
                c, d = load(b, (re, i)), load(b, (im, i))
                r0, j0, s0, t0 = r0 + h * c, j0 + h * d, s0 + e * d, t0 + e * c
                c, d = load(b, (re, i1)), load(b, (im, i1))
                r1, j1, s1, t1 = r1 + h * c, j1 + h * d, s1 + e * d, t1 + e * c
                c, d = load(b, (re, i2)), load(b, (im, i2))
                r2, j2, s2, t2 = r2 + h * c, j2 + h * d, s2 + e * d, t2 + e * c
                c, d = load(b, (re, i3)), load(b, (im, i3))
                r3, j3, s3, t3 = r3 + h * c, j3 + h * d, s3 + e * d, t3 + e * c
            r0, r1, r2, r3 = r0 - s0, r1 - s1, r2 - s2, r3 - s3
            j0, j1, j2, j3 = j0 + t0, j1 + t1, j2 + t2, j3 + t3
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
            _filter(x[c], start, shifts, weights, start, columns)
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
    """Adjoint of `moduli`: adds to the first rows of `gradient`, and uses up the others."""
    columns = np.empty((len(weights), BLOCK), x.dtype)
    spread = np.empty((9, BLOCK), x.dtype)
    for start in _starts(nside):
        for c in range(fields):
            _filter(x[c], start, shifts, weights, start, columns)
            for g in range(len(weights) // 2):
                row = x[first + g * fields + c, start:]
                up = gradient[first + g * fields + c, start:]
                for r in range(len(masks)):
                    mask = masks[r, start:]
                    for p in range(BLOCK):
                        up[p] += slope[r, g, c] * mask[p]
                real, imag = columns[2 * g], columns[2 * g + 1]
                for p in range(BLOCK):
                    ratio = up[p] / row[p] if row[p] > 0 else x.dtype.type(0)
                    real[p] *= ratio
                    imag[p] *= ratio
            _unfilter(columns, start, shifts, weights, start, spread, gradient[c])


@compiled
def products(x, weights, shifts, masks, nside, out):
    """Add the Gram matrices (R, L, K, K) of one level: all rows of `x` (K, cells), filtered."""
    columns = _scratch(len(x), len(weights), x)
    sums = np.zeros((*out.shape, lanes(x)), x.dtype)
    for start in _starts(nside):
        _columns(x, start, shifts, weights, start, columns)
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
    columns = _scratch(len(x), len(weights), x)
    up = _scratch(len(x), len(weights), x)
    near = _scratch(len(weights), 9, x)  # weights that are read 2 K times
    spread = np.empty((9, BLOCK), x.dtype)
    real, imag = np.empty(slope.shape, x.dtype), np.empty(slope.shape, x.dtype)
    for r in range(slope.shape[0]):
        for g in range(slope.shape[1]):
            _hermitian(slope[r, g], real[r, g], imag[r, g])
    for start in _starts(nside):
        up[:] = 0
        for f in range(len(weights)):
            for n in range(9):
                for i in range(0, BLOCK, lanes(x)):
                    store(load(weights, (f, n, start + i)), near, (f, n, i))
        _columns(x, start, shifts, near, 0, columns)
        for r in range(slope.shape[0]):
            for g in range(slope.shape[1]):
                _ungram(columns, g, masks[r], start, real[r, g], imag[r, g], up)
        for k in range(len(x)):
            _unfilter(up[k], start, shifts, near, 0, spread, gradient[k])


@compiled
def backward(
    x, fields, first, weights, shifts, halo, source, masks, nside, means, grams, gradient
):  # fmt: skip
    """Adjoint of `moduli` and `products` at `x`: adds to `gradient` (K, cells)."""
    _unproducts(x, weights, shifts, masks, nside, grams, gradient)
    _fold(gradient, halo, source)
    _unmoduli(x, fields, first, weights, shifts, masks, nside, means, gradient)
    _fold(gradient[:fields], halo, source)
