"""Modules measured one by one."""
