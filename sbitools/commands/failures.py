"""What a command prints when it fails by something that the user can mend."""

from __future__ import annotations

import errno

from sbitools.errors import SbitoolsError, StoreError

__all__ = ["path_error", "print_error"]

# What a path, a full disk or missing rights can cause, and the user can mend.
_PATH_ERRORS = {
    errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT,
    errno.ENOSPC, errno.ENOTDIR, errno.ENOTEMPTY, errno.EPERM, errno.EROFS,
}  # fmt: skip


def path_error(error: OSError) -> SbitoolsError | None:
    """What went wrong with a path, where the user can mend it."""
    if error.errno not in _PATH_ERRORS:
        return None
    return StoreError(
        str(error.filename or "a file"), expected="a path that can be read and written",
        got=error.strerror or str(error),
        fix="correct the path, its permissions or the space on the disk, and run again",
    )  # fmt: skip


def print_error(error: SbitoolsError) -> None:
    """Subject, and what was expected, got and mends it, on stderr."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), (error.subject, "bold")))
    for name in ("expected", "got", "fix"):
        console.print(Text.assemble((f"  {name + ':':<10}", "dim"), getattr(error, name)))
