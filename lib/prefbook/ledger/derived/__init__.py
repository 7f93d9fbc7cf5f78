"""Quantities derived from tables that a chapter's figures, statistics and quoted numbers share."""
