"""Tests of fsck, gc, repack, stats, rebuild and doctor."""
