"""The static registry: what is believed of fifteen well-known kinds of tool before anything is measured.

A prior is listed as not executable until a real tool of its name stands behind it.
"""

from typing import NamedTuple

from mcp_federation.engine.types import MCPCategory, MCPToolSpec


class Figures(NamedTuple):
    """Usage, reliability and cost efficiency, each in [0, 1]."""

    usage: float
    reliability: float
    cost_efficiency: float


UNKNOWN = Figures(usage=0.0, reliability=0.5, cost_efficiency=0.5)
"""What is believed of a tool that nobody has measured and that has no prior."""

_WEB = MCPCategory.WEB_INFORMATION
_DATA = MCPCategory.DATA_PROCESSING
_COMMUNICATION = MCPCategory.COMMUNICATION
_DEVELOPMENT = MCPCategory.DEVELOPMENT

_ROWS: tuple[tuple[str, MCPCategory, Figures, str, str], ...] = (
    (
        "web_scraper_mcp",
        _WEB,
        Figures(0.25, 0.92, 0.88),
        "Scrape web pages and extract structured data from their HTML.",
        "html_parsing data_extraction css_selection",
    ),
    (
        "browser_automation_mcp",
        _WEB,
        Figures(0.22, 0.89, 0.85),
        "Drive a browser: open dynamic pages, click, fill in forms, take screenshots.",
        "navigation form_filling screenshots",
    ),
    (
        "search_engine_mcp",
        _WEB,
        Figures(0.18, 0.94, 0.91),
        "Search the web and return ranked results.",
        "web_search result_ranking",
    ),
    (
        "wikipedia_mcp",
        _WEB,
        Figures(0.15, 0.96, 0.93),
        "Look up articles, summaries and facts in Wikipedia.",
        "article_lookup summaries fact_checking",
    ),
    (
        "pandas_toolkit_mcp",
        _DATA,
        Figures(0.20, 0.91, 0.87),
        "Analyse tables: load CSV, filter, join, aggregate, compute statistics and plot charts.",
        "data_analysis statistics data_cleaning visualisation",
    ),
    (
        "file_operations_mcp",
        _DATA,
        Figures(0.17, 0.93, 0.89),
        "Read, list and convert files, and pack and unpack archives such as zip and tar.",
        "file_reading directory_listing archive_handling",
    ),
    (
        "text_processing_mcp",
        _DATA,
        Figures(0.16, 0.90, 0.86),
        "Process plain text: count, search, replace, split, summarise, find sentiment and keywords.",
        "text_analysis keyword_extraction sentiment_analysis",
    ),
    (
        "image_processing_mcp",
        _DATA,
        Figures(0.14, 0.88, 0.84),
        "Transform images - resize, crop, convert - and read text in pictures by OCR.",
        "image_transformation ocr",
    ),
    (
        "api_client_mcp",
        _COMMUNICATION,
        Figures(0.19, 0.92, 0.88),
        "Call REST and GraphQL APIs over HTTP with authentication, and handle webhooks.",
        "http_requests authentication webhooks",
    ),
    (
        "email_client_mcp",
        _COMMUNICATION,
        Figures(0.12, 0.89, 0.85),
        "Send, read and search email over SMTP and IMAP.",
        "email_sending email_search",
    ),
    (
        "calendar_scheduling_mcp",
        _COMMUNICATION,
        Figures(0.10, 0.87, 0.83),
        "Create and find calendar events, and schedule meetings without conflicts.",
        "event_management meeting_scheduling",
    ),
    (
        "code_execution_mcp",
        _DEVELOPMENT,
        Figures(0.21, 0.90, 0.86),
        "Run program code in a sandbox and return its output.",
        "code_running debugging",
    ),
    (
        "git_operations_mcp",
        _DEVELOPMENT,
        Figures(0.13, 0.91, 0.87),
        "Version control with git: commits, branches, diffs, history and pull requests.",
        "version_control code_review",
    ),
    (
        "database_mcp",
        _DEVELOPMENT,
        Figures(0.11, 0.89, 0.85),
        "Query SQL databases and inspect their tables and schemas.",
        "sql_queries schema_inspection",
    ),
    (
        "docker_container_mcp",
        _DEVELOPMENT,
        Figures(0.09, 0.88, 0.84),
        "Build images, and start, stop and inspect Docker containers.",
        "container_management image_building",
    ),
)

_FIGURES = {name: figures for name, _, figures, _, _ in _ROWS}


def prior_figures(base_name: str) -> Figures:
    """What is believed of a tool of that name (without `@node`) before it is measured."""
    return _FIGURES.get(base_name, UNKNOWN)


def static_specs() -> list[MCPToolSpec]:
    """The fifteen priors as new specs, not executable."""
    return [
        MCPToolSpec(
            name=name,
            description=description,
            capabilities=capabilities.split(),
            category=category,
            usage_frequency=figures.usage,
            reliability_score=figures.reliability,
            cost_efficiency=figures.cost_efficiency,
            metadata={"local_name": name, "static": True, "executable": False, "available": False},
        )
        for name, category, figures, description, capabilities in _ROWS
    ]
