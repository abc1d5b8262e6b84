"""The category of a tool from its words. Pure and deterministic."""

from collections.abc import Mapping

from mcp_federation.engine.text import terms
from mcp_federation.engine.types import MCPCategory

_WORDS: Mapping[MCPCategory, str] = {
    MCPCategory.WEB_INFORMATION: """
        web webpage website page browser browse crawl scrape fetch url link search engine google bing
        wikipedia article news weather forecast map place location route flight hotel restaurant stock price
        market currency crypto paper arxiv encyclopedia lookup internet online youtube video movie music sport
        time timezone recipe
    """,
    MCPCategory.DATA_PROCESSING: """
        data dataset file folder directory archive zip tar csv excel spreadsheet table column row pandas
        statistic aggregate chart plot graph text word sentence summarize summary translate sentiment keyword
        convert conversion format parse extract pdf document image picture resize crop ocr audio json xml
        calculate calculator math number encode decode
    """,
    MCPCategory.COMMUNICATION: """
        email mail inbox smtp imap message chat slack discord telegram sms whatsapp notify notification
        calendar event meeting schedule appointment invite contact call phone team post tweet social reply
        webhook api rest graphql endpoint http request
    """,
    MCPCategory.DEVELOPMENT: """
        code program script python javascript execute sandbox debug compile test git github gitlab commit
        branch diff merge repository repo pull issue docker container kubernetes deploy deployment ci pipeline
        build database sql sqlite postgres mysql query schema terminal shell command log server package
        library
    """,
}

_CATEGORY_TERMS = {category: frozenset(terms(words)) for category, words in _WORDS.items()}
_NAME_WEIGHT = 3
_ORDER = tuple(_WORDS)


def classify(name: str, text: str) -> MCPCategory:
    """The category whose words occur most; a word of the name counts three times, others once each.

    `name` are the name's words. Nothing known, or a tie: the first of data processing, then the order of
    `MCPCategory`.
    """
    in_name, in_text = set(terms(name)), set(terms(text))
    scores = {
        category: _NAME_WEIGHT * len(known & in_name) + len(known & in_text)
        for category, known in _CATEGORY_TERMS.items()
    }
    best = max(scores.values())
    if scores[MCPCategory.DATA_PROCESSING] == best:
        return MCPCategory.DATA_PROCESSING
    return next(category for category in _ORDER if scores[category] == best)
