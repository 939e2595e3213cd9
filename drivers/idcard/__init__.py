"""Readers of Chinese identity documents: the number goes on as a credential, and nowhere else."""

from drivers.idcard.sdt import IdCardReader

__all__ = ["IdCardReader"]
