"""Compiled weighted products of a block of columns, and their gradient.

The innermost loops of `kernels`: everything is in registers or the L1 cache. (Numba looks at the
files of the outermost functions when it decides whether to compile again: after a change here,
save `kernels.py` too.)
"""

# Numba infers the types.
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

from emulators.compiled import compiled, lanes, load, store

__all__ = ["BLOCK", "gram", "hermitian", "ungram"]

BLOCK = 64  # cells: a block's weights and columns stay in the L1 and L2 caches


@compiled
def gram(columns, g, mask, start, out):
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
def hermitian(slope, real, imag):
    """The matrix H of gradient columns H A, for the packed gradient `slope` (K, K) of <A^H A>."""
    for k in range(len(slope)):
        real[k, k], imag[k, k] = 2 * slope[k, k], 0
        for other in range(k + 1, len(slope)):
            real[k, other] = real[other, k] = slope[k, other]
            imag[k, other], imag[other, k] = -slope[other, k], slope[other, k]


@compiled
def ungram(columns, g, mask, start, real, imag, out):
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
