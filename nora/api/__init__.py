"""All that a plugin may import from Nora."""

from nora.api.config import ProxyConfig, RegistryConfig, Secret, url_problem
from nora.api.content import ByteSource, Content, Page
from nora.api.errors import (
    AlreadyExists,
    DigestMismatch,
    Forbidden,
    Invalid,
    NoraError,
    NotAcceptable,
    NotFound,
    StorageFull,
    TooLarge,
    Unauthorized,
    UpstreamError,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from nora.api.events import Event
from nora.api.format import API_VERSION, Format, ProxyFormat
from nora.api.hooks import Authenticator, EventSink, Policy, hookimpl
from nora.api.model import (
    Actor,
    Document,
    File,
    Listing,
    ProjectNames,
    Published,
    Sidecar,
    UpstreamRequest,
)
from nora.api.registry import Registry, Spool
from nora.api.routes import RegistryBlueprint, Right

__all__ = [
    "API_VERSION",
    "Actor",
    "AlreadyExists",
    "Authenticator",
    "ByteSource",
    "Content",
    "DigestMismatch",
    "Document",
    "Event",
    "EventSink",
    "File",
    "Forbidden",
    "Format",
    "Invalid",
    "Listing",
    "NoraError",
    "NotAcceptable",
    "NotFound",
    "Page",
    "Policy",
    "ProjectNames",
    "ProxyConfig",
    "ProxyFormat",
    "Published",
    "Registry",
    "RegistryBlueprint",
    "RegistryConfig",
    "Right",
    "Secret",
    "Sidecar",
    "Spool",
    "StorageFull",
    "TooLarge",
    "Unauthorized",
    "UpstreamError",
    "UpstreamInvalid",
    "UpstreamRequest",
    "UpstreamTimeout",
    "UpstreamUnavailable",
    "hookimpl",
    "url_problem",
]
