"""The composition: settings and plugins become a running host. Nothing else connects parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nora import __version__
from nora.api import EventSink, File, Format, Policy, ProxyConfig, ProxyFormat, RegistryConfig
from nora.audit.log import AuditLog
from nora.audit.send import Sender, Webhooks
from nora.audit.webhook import Webhook
from nora.auth.access import Access, Rules, open_registries
from nora.auth.htpasswd import HtpasswdFile
from nora.auth.limits import LoginLimits
from nora.auth.publishers import TrustedPublisher
from nora.auth.tokens import Tokens
from nora.config.errors import ConfigurationError
from nora.config.networks import network_of
from nora.config.settings import RegistrySettings, Settings
from nora.http.api import api_routes
from nora.http.app import API_PATH, App, Mount, Readiness, build_app
from nora.http.body import BodyReader
from nora.http.dispatch import HOST, Dispatcher
from nora.http.fast import HeldPages
from nora.http.forwarded import Network
from nora.http.limits import RequestLimits
from nora.http.publishing import Publishing
from nora.http.tokens import token_routes
from nora.index.index import Index
from nora.plugins import Plugins
from nora.registry.curate import Curator
from nora.registry.files import Files
from nora.registry.journal import Journal
from nora.registry.managed import ManagedRegistry
from nora.registry.publish import Publisher
from nora.registry.registry import HostRegistry
from nora.registry.sources import Source
from nora.room.background import Eviction
from nora.room.evict import Limit
from nora.room.named import Parsers
from nora.store.directory import DirectoryStore
from nora.store.protocol import Store
from nora.tasks import SingleFlight, Tasks
from nora.threads import WarmThreads
from nora.upstream.client import Upstream, UpstreamClient, make_client, trusting
from nora.upstream.downloads import Downloads
from nora.upstream.issuers import issuer_documents
from nora.upstream.listings import RelatedDocuments, UpstreamListings
from nora.upstream.pins import Pins
from nora.upstream.reach import Reach
from nora.upstream.used import UsedFiles

if TYPE_CHECKING:
    from nora.auth.exchange import Exchange

log = logging.getLogger(__name__)

SEND_THREADS = 16


@dataclass(frozen=True, slots=True)
class Host:
    """A composed host: its web application, whether it takes requests, its registries by name, and all declared routes.

    A server starts its webhooks; other commands leave sending to servers.
    """

    app: App
    readiness: Readiness
    registries: dict[str, ManagedRegistry]
    mounts: Sequence[Mount]
    webhooks: Webhooks


@dataclass(frozen=True, slots=True)
class Parts:
    """What all registries share; ``used`` is by the name of the registry, for those that can fetch."""

    store: Store
    tasks: Tasks
    flights: SingleFlight
    pages: UpstreamClient
    downloads: Downloads
    read_body: BodyReader
    sinks: Sequence[EventSink]
    used: dict[str, UsedFiles] = field(default_factory=dict)


@asynccontextmanager
async def host(settings: Settings, plugins: Plugins, environ: Mapping[str, str]) -> AsyncIterator[Host]:
    """A host as configured; everything is closed in reverse order at the end.

    Raises:
        ConfigurationError: the parts do not fit together.
        StoreError: the storage cannot be used.
    """
    async with AsyncExitStack() as stack:
        pool = WarmThreads(SEND_THREADS, "nora-send")
        asyncio.get_running_loop().set_default_executor(pool)
        store = DirectoryStore.open(Path(settings.storage.path))
        stack.push_async_callback(store.aclose)
        # Connections of their own: however many files are on their way, or receivers are silent, pages do not wait for a free one.
        pages, files, webhook_client = _clients(settings, environ, 3)
        for client in (pages, files, webhook_client):
            stack.push_async_callback(client.aclose)
        tasks = Tasks()
        audit = _audit(settings, store) if settings.audit.enabled else None
        if audit is not None:
            stack.push_async_callback(audit.aclose)  # after the tasks, so what they do last is written, too
            audit.start(tasks)
        stack.push_async_callback(tasks.aclose)
        tasks.spawn(store.prepare(), "preparing the storage")
        read_body = BodyReader(settings.server.body_limit_mb * 1024 * 1024)
        downloads = Downloads(store, files, tasks)
        sinks = [*plugins.sinks, *([] if audit is None else [audit])]
        parts = Parts(store, tasks, SingleFlight(tasks), pages, downloads, read_body, sinks)
        tokens = Tokens(store, tasks)
        logins = LoginLimits()
        access = _access(settings, plugins, stack, tokens, logins, audit)
        exchange = _exchange(settings, parts, tokens, logins, audit)
        trusted = tuple(map(network_of, settings.server.trusted_proxies))
        limits = RequestLimits(settings.server.requests_per_minute) if settings.server.requests_per_minute else None
        held = _held_pages(settings, store, trusted, limits)
        dispatcher = Dispatcher(access, access_log_enabled=settings.logging.access, held=held, trusted=trusted, limits=limits)
        readiness = Readiness()
        registries = {configured.name: _registry(configured, settings, plugins, parts) for configured in settings.registries}
        noted = audit.token if audit else None
        api = [*api_routes(registries).routes, *token_routes(tokens, noted)]
        everything = [Mount(HOST, API_PATH, api), *mounts(settings, registries)]
        app = build_app(
            everything,
            dispatcher,
            readiness,
            body_limit_bytes=read_body.limit_bytes,
            publishing=Publishing(exchange, noted),
        )
        if room := {limit.registry: (limit, parts.used[limit.registry]) for limit in cache_limits(settings)}:
            tasks.spawn(Eviction(store.root, room, parsers=listing_parsers(settings, plugins)).run(), "eviction")
        senders = [Sender(store.root, webhook, webhook_client.post) for webhook in _webhooks(settings)]
        yield Host(app, readiness, registries, everything, Webhooks(senders, tasks))


def mounts(settings: Settings, registries: Mapping[str, ManagedRegistry]) -> list[Mount]:
    """The routes of all registries.

    Raises:
        ConfigurationError: a plugin's routes cannot be had.
    """
    found, problems = [], []
    for configured in settings.registries:
        composed = registries[configured.name]
        try:
            found.append(Mount(configured.name, configured.path, composed.format.routes(composed.registry).routes))
        except Exception as error:
            log.debug("routes of a plugin", exc_info=error)
            problems.append(f"registries.{configured.name}: format {configured.format} failed to give its routes: {error!r}")
    if problems:
        raise ConfigurationError(problems)
    return found


def cache_limits(settings: Settings) -> list[Limit]:
    """How much the registries may hold of what they have fetched, for those with a limit."""
    return [
        Limit(configured.name, int(config.cache_max_gb * 1024**3), config.keep_withdrawn)
        for configured in settings.registries
        if isinstance(config := configured.config, ProxyConfig) and config.cache_max_gb
    ]


def listing_parsers(settings: Settings, plugins: Plugins) -> Parsers:
    """How the registries' formats read listings, by the registry's name."""
    formats = {configured.name: plugins.formats[configured.format] for configured in settings.registries}
    return {name: format_.parse_listing for name, format_ in formats.items() if isinstance(format_, ProxyFormat)}


def _clients(settings: Settings, environ: Mapping[str, str], count: int) -> list[UpstreamClient]:
    ca_cert = settings.tls.ca_cert
    try:
        context = trusting(ca_cert=ca_cert, environ=environ)
        return [make_client(ca_cert=ca_cert, environ=environ, version=__version__, context=context) for _ in range(count)]
    except ValueError as error:
        raise ConfigurationError([str(error)]) from error


def _audit(settings: Settings, store: DirectoryStore) -> AuditLog:
    names = [webhook.name for webhook in settings.webhooks]
    return AuditLog(store.root, keep_days=settings.audit.keep_days, webhooks=names)


def _webhooks(settings: Settings) -> list[Webhook]:
    return [
        Webhook(
            name=configured.name,
            url=configured.config.url,
            key=configured.config.key,
            timeout_seconds=configured.config.timeout,
            actions=frozenset(configured.config.actions),
            registries=configured.config.registries,
            projects=configured.config.projects,
        )
        for configured in settings.webhooks
    ]


def _access(
    settings: Settings, plugins: Plugins, stack: AsyncExitStack, tokens: Tokens, limits: LoginLimits, audit: AuditLog | None
) -> Access:
    if not settings.auth.enabled:
        return Access(False, Rules(), ())
    users = HtpasswdFile(settings.auth.htpasswd_file)
    stack.callback(users.close)
    users.problems()  # read now: whoever starts the server looks at the log, and whoever cannot log in does not
    open_to_all = open_registries(
        settings.auth.anonymous_read, {each.name: each.config.anonymous_read for each in settings.registries}
    )
    rules = Rules([(rule.who, rule.grant) for rule in settings.rules], open_to_all)
    return Access(True, rules, (users, *plugins.authenticators), tokens, limits, told=audit.login if audit else None)


def _exchange(settings: Settings, parts: Parts, tokens: Tokens, limits: LoginLimits, audit: AuditLog | None) -> Exchange | None:
    if not (settings.publishers and settings.auth.enabled):
        return None
    # Not at every start: what checks signatures takes a tenth of its time, and eight megabytes.
    from nora.auth.exchange import Exchange
    from nora.auth.issuers import IssuerKeys

    audience = settings.auth.oidc_audience or settings.server.public_url
    publishers = [
        TrustedPublisher(each.issuer, each.audience or audience, each.claims, each.grant) for each in settings.publishers
    ]
    keys = IssuerKeys(issuer_documents(parts.pages), parts.tasks)
    told = audit.login if audit else None
    return Exchange(audience, publishers, keys, tokens, parts.store, limits=limits, told=told)


def _held_pages(settings: Settings, store: Store, trusted: Sequence[Network], limits: RequestLimits | None) -> HeldPages | None:
    max_bytes = settings.server.page_cache_mb * 1024 * 1024
    # Tokens want to know of changes, too.
    wanted = max_bytes > 0 or settings.auth.enabled
    watching = wanted and store.changes is not None and store.changes.watch()
    if not max_bytes or not watching or store.changes is None:
        return None
    return HeldPages(
        max_bytes,
        store.changes.token,
        logs=settings.logging.access,
        secret=settings.auth.enabled,
        trusted=trusted,
        limits=limits,
    )


def _registry(configured: RegistrySettings, settings: Settings, plugins: Plugins, parts: Parts) -> ManagedRegistry:
    config, format_ = configured.config, plugins.formats[configured.format]
    index = Index(parts.store, configured.name)
    overlay = Index(parts.store, configured.name, area="overlay")
    journal = Journal(configured.name, parts.sinks)
    proxying = isinstance(config, ProxyConfig) and isinstance(format_, ProxyFormat)
    if isinstance(config, ProxyConfig):
        parts.used[configured.name] = UsedFiles(parts.store, parts.tasks, configured.name)
    files = Files(
        registry=configured.name,
        store=parts.store,
        client=parts.pages,
        downloads=parts.downloads,
        flights=parts.flights,
        proxy_timeout=config.proxy_timeout if isinstance(config, ProxyConfig) else 30,
        used=parts.used.get(configured.name),
    )
    registry = HostRegistry(
        name=configured.name,
        path=configured.path,
        config=config,
        public_url=f"{settings.server.public_url.rstrip('/')}{configured.path}" if settings.server.public_url else "",
        store=parts.store,
        index=index,
        overlay=overlay,
        sources=_sources(configured.name, format_, config, parts) if proxying else (),
        files=files,
        flights=parts.flights,
        publisher=Publisher(store=parts.store, index=index, overlay=overlay, journal=journal),
        refusal=_refusal(configured.name, plugins.policies),
        read_body=parts.read_body,
        merge_upstream=config.merge_upstream if isinstance(config, ProxyConfig) else (),
        version_key=format_.version_key,
    )
    curator = Curator(index=index, overlay=overlay, listing=registry.offered, journal=journal, version_key=format_.version_key)
    return ManagedRegistry(registry, curator, format_)


def _sources(registry: str, format_: Format, config: RegistryConfig, parts: Parts) -> list[Source]:
    assert isinstance(format_, ProxyFormat)
    assert isinstance(config, ProxyConfig)
    sources = []
    reach = Reach.of(config.upstreams, config.proxy_private_hosts)
    for position, url in enumerate(config.upstreams):
        shared: dict[str, Any] = {
            "store": parts.store,
            "client": parts.pages,
            "tasks": parts.tasks,
            "upstream": Upstream(url, config.proxy_auth, reach),
            "registry": registry,
            "position": position,
            "config": config,
        }
        listings = UpstreamListings(format_=format_, **shared)
        related = {document.kind: RelatedDocuments(document=document, **shared) for document in format_.related}
        sources.append(Source(listings, Pins(parts.store, listings.prefix), format_.sidecar_readers, related))
    return sources


def _refusal(registry: str, policies: Sequence[Policy]) -> Callable[[str, File], str | None] | None:
    if not policies:
        return None

    def refusal(project: str, file: File) -> str | None:
        return next((reason for policy in policies if (reason := policy.refusal(registry, project, file)) is not None), None)

    return refusal
