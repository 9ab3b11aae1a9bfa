"""The verdict on a host, and what there is to be said about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Something found on this host. A blocking one makes the verdict a no."""

    code: str
    message: str
    remedy: str
    blocking: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether processes can be frozen and thawed here, with which CRIU and rights, and what is to be said about it."""

    ok: bool
    reasons: tuple[Reason, ...] = ()
    version: str | None = None
    path: str | None = None
    mode: str | None = None

    def describe(self) -> dict[str, object]:
        """For machines."""
        return asdict(self)

    def __str__(self) -> str:
        criu = f"CRIU {self.version} at {self.path}, {self.mode}" if self.version else "no usable CRIU"
        lines = [f"checkpoints {'work' if self.ok else 'do not work'} here: {criu}"]
        for reason in self.reasons:
            lines += [f"{'no' if reason.blocking else 'note'}: {reason.message}", f"    {reason.remedy}"]
        return "\n".join(lines)
