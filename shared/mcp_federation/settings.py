"""Settings of every process: one typed class, read once from the environment in a composition root.

Each field is an environment variable `MCP_FEDERATION_<FIELD>`; command-line flags override it.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mcp_federation.contract.names import NODE_NAME
from mcp_federation.errors import InvalidRequest
from mcp_federation.logs import Level

Sharing = Literal["statistics", "records", "nothing"]
MAX_DAYS = 36_500
"""The longest time in days, a century: NATS and calendars have none of much more."""

Words = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """What a process can be told. Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="MCP_FEDERATION_", frozen=True, extra="ignore")

    nats_url: str = Field(
        "nats://127.0.0.1:4222", description="NATS servers (nats, tls, ws or wss), comma separated"
    )
    trusted_keys: Words = Field((), description="governance keys (ed25519:… or a file), comma separated")
    node: str = Field("local", pattern=f"^{NODE_NAME.pattern}$", description="this organisation's node")
    state_dir: Path = Field(Path(".mcp-federation"), description="where keys and state are kept")
    public_key: Path | None = Field(None, description="where governance writes its public key as well")
    liveness_file: Path | None = Field(None, description="touched every few seconds while NATS is reached")
    log_level: Level = Field("info", description="error, warn, info, http, verbose, debug or silly")

    config: Path | None = Field(None, description="an mcpServers file: the MCP servers of the node")
    toolboxes: Words = Field((), description="Python toolboxes (module:object or a folder), comma separated")

    token: SecretStr | None = Field(None, description="bearer token of the REST API; unset means open")
    nodes: Words = Field((), description="partner meshes: https:// and nats:// URLs, comma separated")
    host: str = Field("127.0.0.1", description="the edge's address")
    port: int = Field(8000, ge=0, le=65535, description="the edge's port; 0 takes a free one")
    max_payload: int = Field(
        64 * 1024 * 1024,
        ge=1024,
        description="the largest call, and the largest result, in bytes of JSON (the SDK sends a text twice)",
    )
    max_body: int = Field(1024 * 1024, ge=1024, description="the largest request body but that of /execute")
    max_depth: int = Field(64, ge=1, le=500, description="the deepest nesting of a body or of arguments")

    heartbeat: float = Field(2.0, gt=0, le=3600, description="seconds between a node's presences")
    poll_interval: float = Field(30.0, gt=0, description="seconds between looks at a server's tool list")
    start_timeout: float = Field(30.0, gt=0, description="how long an MCP server may take to start")
    call_timeout: float = Field(30.0, gt=0, description="the deadline of an execution that names none")
    max_call_timeout: float = Field(300.0, gt=0, description="the longest deadline of an execution")
    max_in_flight: int = Field(256, ge=1, description="executions that a node runs at once")
    max_concurrency: int = Field(64, ge=1, description="calls that one MCP server gets at once")
    sharing: Sharing = Field(
        "statistics", description="what others get of executions: statistics, records or nothing"
    )
    privacy_k: int = Field(20, ge=2, description="executions that released statistics are about at least")
    privacy_epsilon: float = Field(1.0, gt=0, le=100, description="the privacy loss of one execution")
    privacy_budget: float = Field(20.0, gt=0, description="the privacy loss of all on one tool in 24 hours")
    metrics_days: float = Field(
        30.0, ge=0.001, le=MAX_DAYS, description="how long the metrics stream keeps what it gets"
    )
    approval_days: float = Field(30.0, gt=0, le=MAX_DAYS, description="how long an approval holds")
    policy: str = Field("standard", description="governance's policy: open, standard, strict or a TOML file")
    import_policy: str | None = Field(
        None, description="a policy of one's own over the catalog; unset takes what governance approved"
    )
    governance_workers: int = Field(
        0, ge=0, description="the most governance processes that a bulk is judged by; 0 for one a core"
    )
    judge_model: str | None = Field(
        None, description="a chat model that reads registrations too, and may hold one back; unset asks none"
    )
    judge_url: str = Field("https://openrouter.ai/api/v1", description="its OpenAI-compatible endpoint")
    judge_key: SecretStr | None = Field(None, description="the endpoint's key")
    judge_timeout: float = Field(10.0, gt=0, description="how long it may take to answer")
    operators: Words = Field(
        (), description="keys that may decide at governance (ed25519:… or a file), comma separated"
    )

    @field_validator("trusted_keys", "nodes", "toolboxes", "operators", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("token", "judge_key", mode="after")
    @classmethod
    def _empty_is_unset(cls, value: SecretStr | None) -> SecretStr | None:
        return value if value and value.get_secret_value() else None


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment, with those given (None: not given) on top.

    Raises:
        InvalidRequest: a value does not fit; the message names the setting.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        problems = "; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors())
        raise InvalidRequest(f"bad settings: {problems}") from None
