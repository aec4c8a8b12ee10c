"""The classes that DVC ships for the authors of remotes: all of those that do not need versioned buckets."""

from __future__ import annotations

import pytest
from dvc.testing.api_tests import TestAPI as Api
from dvc.testing.remote_tests import TestRemote as Remote
from dvc.testing.workspace_tests import TestGetUrl as GetUrl
from dvc.testing.workspace_tests import TestImport as Import
from dvc.testing.workspace_tests import TestLsUrl as LsUrl
from dvc.testing.workspace_tests import TestToRemote as ToRemote

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:_NoneStep.value"),  # DVC's, on a newer pygtrie
]


class TestAPI(Api):  # type: ignore[misc]
    """`dvc.api` and DVCFileSystem."""


class TestRemote(Remote):  # type: ignore[misc]
    """Push, pull, status, run-cache, and how remotes are searched."""


class TestImport(Import):  # type: ignore[misc]
    """`dvc import-url`, empty directories included."""

    @pytest.fixture
    def stage_md5(self) -> None:
        """What the stage file hashes to, which depends on the ETags."""

    @pytest.fixture
    def dir_md5(self) -> None:
        """As above."""

    @pytest.fixture
    def is_object_storage(self) -> bool:
        """Empty directories are real here."""
        return False


class TestLsUrl(LsUrl):  # type: ignore[misc]
    """`dvc ls-url`."""


class TestGetUrl(GetUrl):  # type: ignore[misc]
    """`dvc get-url`."""


class TestToRemote(ToRemote):  # type: ignore[misc]
    """`--to-remote`."""
