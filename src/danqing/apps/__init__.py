"""The apps, such as paint and upscale: each module without an underscore is an app.

The names below are for the interfaces of danqing (command line, Python, servers). They are imported at their
first use, so that listing the apps is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from danqing.apps._animate import keep_frames as keep_frames
    from danqing.apps._classify import Classification as Classification
    from danqing.apps._control_names import choices_of_controls as choices_of_controls
    from danqing.apps._control_names import is_ip_adapter as is_ip_adapter
    from danqing.apps._disco_settings_file import settings_text as settings_text
    from danqing.apps._frame_folder import FrameFolder as FrameFolder
    from danqing.apps._generate import with_adapters as with_adapters
    from danqing.apps._grid import grid_of as grid_of
    from danqing.apps._image_files import UnreadableFile as UnreadableFile
    from danqing.apps._image_files import pictures_in as pictures_in
    from danqing.apps._inputs import AppInputs as AppInputs
    from danqing.apps._inputs import PictureFiles as PictureFiles
    from danqing.apps._inputs import ResolvedInputs as ResolvedInputs
    from danqing.apps._inputs import with_switches as with_switches
    from danqing.apps._lineage import sheet as sheet
    from danqing.apps._names import app_summaries as app_summaries
    from danqing.apps._other_programs import OtherSettings as OtherSettings
    from danqing.apps._other_programs import read_other_settings as read_other_settings
    from danqing.apps._parse import validate as validate
    from danqing.apps._registry import App as App
    from danqing.apps._registry import apps_table as apps_table
    from danqing.apps._registry import find_app as find_app
    from danqing.apps._registry import names as names
    from danqing.apps._search import Hit as Hit
    from danqing.apps._session import NamedSession as NamedSession
    from danqing.apps._session import Session as Session
    from danqing.apps._session import default_session as default_session
    from danqing.apps._video import film_writer as film_writer
    from danqing.apps._video import save_film as save_film

_PLACES = {
    "App": "_registry",
    "AppInputs": "_inputs",
    "FrameFolder": "_frame_folder",
    "Hit": "_search",
    "Classification": "_classify",
    "NamedSession": "_session",
    "OtherSettings": "_other_programs",
    "PictureFiles": "_inputs",
    "ResolvedInputs": "_inputs",
    "Session": "_session",
    "UnreadableFile": "_image_files",
    "apps_table": "_registry",
    "choices_of_controls": "_control_names",
    "default_session": "_session",
    "film_writer": "_video",
    "find_app": "_registry",
    "grid_of": "_grid",
    "is_ip_adapter": "_control_names",
    "keep_frames": "_animate",
    "names": "_registry",
    "pictures_in": "_image_files",
    "read_other_settings": "_other_programs",
    "save_film": "_video",
    "settings_text": "_disco_settings_file",
    "sheet": "_lineage",
    "app_summaries": "_names",
    "validate": "_parse",
    "with_adapters": "_generate",
    "with_switches": "_inputs",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'danqing.apps' has no attribute {name!r}")
    return getattr(import_module(f"danqing.apps.{_PLACES[name]}"), name)
