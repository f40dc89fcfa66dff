"""The shapes in which people ask, and the sentences that answer such questions."""

from __future__ import annotations

import re

DEFINITION_FORMS = (
    "what is {a}{word}",
    "what is {a}{word}",
    "{word} definition",
    "define {word}",
    "definition of {word}",
    "{word}",
    "{word} meaning",
    "meaning of {word}",
    "what does {word} mean",
    "what is the meaning of {word}",
    "what is the definition of {word}",
    "what is meant by {word}",
    "explain {word}",
)
HEADING_FORMS = ("{heading}", "{heading}", "how does {heading} work", "what is {heading}")
GERUND_FORMS = (
    "how to {verb} {rest}",
    "how do i {verb} {rest}",
    "how can you {verb} {rest}",
    "{verb} {rest}",
)
SUMMARY_FORMS = (
    "{summary}",
    "what is a {summary}",
    "best {summary}",
    "{summary} software",
    "program for {summary}",
)

# Sentence patterns and the questions that the sentence answers.
QUESTION_PATTERNS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (re.compile(pattern), forms)
    for pattern, forms in (
        (
            r"^To ([a-z][^,.]{8,70}), ",
            ("how to {0}", "how do i {0}", "how can you {0}", "what do you need to {0}"),
        ),
        (r"[Yy]ou can ([a-z][^,.;]{10,70}?) (?:by|with|using)\b", ("how can i {0}", "how to {0}")),
        (
            r"[Yy]ou can (?:also )?use (.{4,40}?) to ([a-z][^,.;]{8,60})",
            ("how to {1}", "what is used to {1}", "what is {0} used for"),
        ),
        (r"^If ([^,.]{12,80}), ", ("what happens if {0}", "what to do if {0}")),
        (r"^When ([^,.]{12,80}), ", ("what happens when {0}", "when {0}")),
        (
            r"^(?:The|A|An) ([A-Za-z][^,.;()]{2,40}?) (?:is|was) (?:a|an|the) ([^,.;]{15,90})",
            ("what is {0}", "what is the {0}", "which {1}", "what is a {1}"),
        ),
        (
            r"^([A-Z][^,.;()]{2,40}?) (?:is|was) (?:a|an|the) ([^,.;]{15,90})",
            ("what is {0}", "who or what was {0}", "which is the {1}", "{0}"),
        ),
        (r"^([A-Z][^,.;()]{2,40}?) are ([^,.;]{15,90})", ("what are {0}", "what are {0}", "{0}")),
        (r"\b([a-z][^,.;]{15,80}) because ", ("why {0}", "why is it that {0}", "reason {0}")),
        (r"^([A-Za-z][^,.;()]{3,40}?) (?:is|are) caused by ", ("what causes {0}", "cause of {0}")),
        (
            r"^([A-Za-z][^,.;()]{3,40}?) (?:was|were) (invented|founded|born|built"
            r"|discovered|introduced|released|written|created|established)\b",
            ("when was {0} {1}", "who {1} {0}", "where was {0} {1}"),
        ),
        (
            r"^([A-Za-z][^,.;()]{3,40}?) (?:contains|includes|consists of|comprises) ",
            ("what does {0} contain", "what is included in {0}", "what is {0} made of"),
        ),
        (
            r"^([A-Za-z][^,.;()]{3,40}?) (?:causes|prevents|produces|affects|supports"
            r"|provides|requires|allows) ([^,.;]{5,60})",
            ("what does {0} do", "what causes {1}", "what provides {1}", "{0} {1}"),
        ),
        (r"\b(?:known as|called) ([A-Za-z][a-zA-Z -]{3,30})[,.;]", ("what is {0}", "{0}")),
        (
            r"\b(?:such as|for example,?) ([A-Za-z][a-zA-Z ,-]{5,50})[.;]",
            ("{0}", "examples like {0}"),
        ),
    )
)

QUESTION_OPENINGS = (
    "what is {}",
    "how does {}",
    "what are the {}",
    "why do {}",
    "how to {}",
    "when is {}",
    "where is {}",
    "which {}",
    "is {}",
    "can {}",
    "types of {}",
    "cost of {}",
    "how long {}",
    "how many {}",
    "difference between {}",
    "who {}",
)
