"""Write public sets of requests with tools in the benchmark's form: `python scripts/training_sets.py --help`.

The repositories (`SETS` names them with their licences) lie checked out side by side in one folder. What the
benchmark asks is not written: a request that a set of `--benchmark` has is left out.
"""

import argparse
import ast
import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_REQUEST = 1_000
BFCL = (
    *("live_multiple", "live_parallel_multiple", "live_simple", "live_parallel"),
    *("multiple", "parallel_multiple", "parallel", "simple_python", "simple_java", "simple_javascript"),
)
STABLE = ("G1_tool", "G1_instruction", "G1_category", "G2_instruction", "G2_category", "G3_instruction")
PERMISSIVE = ("MIT", "MIT (repo)", "Apache-2.0")


@dataclass
class Written:
    """A set as it grows: tools by any key, and requests with the keys of what serves them."""

    tools: dict[Any, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, list[Any]]] = field(default_factory=list)

    def tool(self, key: Any, name: str, server: str, description: str, parameters: Mapping[str, str]) -> None:
        """Have the tool under its key; the first one of a key stays."""
        properties = {parameter: {"description": text} for parameter, text in parameters.items()}
        row = {"name": name, "server": server, "description": description or ""}
        self.tools.setdefault(key, {**row, "input_schema": {"properties": properties}})

    def request(self, text: str, keys: Iterable[Any]) -> None:
        """Have the request, if there is a tool for it."""
        serving = [key for key in dict.fromkeys(keys) if key in self.tools]
        if text.strip() and serving:
            self.requests.append((text.strip()[:MAX_REQUEST], serving))

    def text(self, text: str) -> None:
        """Have a request of which nobody said what serves it."""
        self.requests.append((text.strip()[:MAX_REQUEST], []))


def lines(path: Path) -> Iterator[Any]:
    """The values of a file of JSON lines."""
    return (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def read(path: Path) -> Any:
    """The value of a file of JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def described(properties: Mapping[str, Any]) -> dict[str, str]:
    """Parameters with their descriptions."""
    return {
        name: str(value.get("description", "")) if isinstance(value, Mapping) else ""
        for name, value in properties.items()
    }


def metatool(folder: Path) -> Written:
    found = Written()
    for name, description in read(folder / "dataset/plugin_des.json").items():
        found.tool(name, name, f"openai-plugin/{name}", description, {})
    with (folder / "dataset/data/all_clean_data.csv").open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            found.request(row["Query"], [row["Tool"]])
    return found


def seal(folder: Path) -> Written:
    found, data = Written(), folder / "Seal-Tools_Dataset"
    for row in lines(data / "tool.jsonl"):
        server = row["field"].rpartition("/")[2]
        found.tool(
            row["api_name"], row["api_name"], server, row["api_description"], described(row["parameters"])
        )
    for part in ("dev", "test_in_domain", "test_out_domain"):
        for row in lines(data / f"{part}.jsonl"):
            found.request(row["query"], (call["api"] for call in row["calling"]))
    return found


def bfcl(folder: Path) -> Written:
    found, data = Written(), folder / "berkeley-function-call-leaderboard/bfcl_eval/data"
    for part in BFCL:
        answers = {
            row["id"]: row["ground_truth"] for row in lines(data / f"possible_answer/BFCL_v4_{part}.json")
        }
        for row in lines(data / f"BFCL_v4_{part}.json"):
            keys = {
                function["name"]: (function["name"], function["description"]) for function in row["function"]
            }
            for function in row["function"]:
                server, _, name = function["name"].rpartition(".")
                parameters = described(function["parameters"].get("properties", {}))
                found.tool(keys[function["name"]], name, server, function["description"], parameters)
            asked = [turn["content"] for turn in row["question"][0] if turn["role"] == "user"]
            called = [keys[name] for call in answers[row["id"]] for name in call if name in keys]
            found.request(asked[-1] if asked else "", called)
    return found


def toolbench(folder: Path) -> Written:
    """ToolBench's requests that can be solved, with the APIs that its prompt offered."""
    found = Written()
    for part in STABLE:
        for row in read(folder / f"solvable_queries/test_instruction/{part}.json"):
            for api in row["api_list"]:
                given = [*api["required_parameters"], *api["optional_parameters"]]
                parameters = {each["name"]: str(each.get("description") or "") for each in given}
                key = (api["tool_name"], api["api_name"])
                found.tool(key, api["api_name"], api["tool_name"], api["api_description"], parameters)
            found.request(row["query"], (tuple(pair) for pair in row["relevant APIs"]))
    return found


def nestful(folder: Path) -> Written:
    found = Written()
    parts = {"executable/executable": "", "non-executable/non-executable": "-sgd"}
    for part, kind in [*parts.items(), ("non-executable/non-executable", "-glaive")]:
        for api in read(folder / f"data/{part}{kind}-spec.json"):
            given = api.get("arguments") or {
                **(api.get("query_parameters") or {}),
                **(api.get("path_parameters") or {}),
            }
            server, _, name = api["name"].rpartition(".")
            found.tool(api["name"], name, server, api["description"], described(given))
        for row in read(folder / f"data/{part}{kind}-data.json"):
            found.request(row["input"], (call["name"] for call in row["output"]))
    return found


def toolalpaca(folder: Path) -> Written:
    found = Written()
    for part in ("real", "simulated"):
        for api in read(folder / f"data/eval_{part}.json"):
            for name, text in api["Function_Description"].items():
                if name == "components":
                    continue
                description, _, given = text.partition("\nParameters: ")
                parameters = _alpaca_parameters(given.partition("\nOutput:")[0])
                found.tool((api["Name"], name), name, api["Name"], description, parameters)
            for text, calls in zip(api["Instructions"], api.get("Golden_Answers") or [], strict=False):
                found.request(text, ((api["Name"], call["Action"]) for call in calls))
    return found


def _alpaca_parameters(text: str) -> dict[str, str]:
    try:
        return {str(name): str(value) for name, value in ast.literal_eval(text.strip()).items()}
    except (ValueError, SyntaxError, AttributeError):
        return {}


def apibench(folder: Path) -> Written:
    """Models as tools: what each is for, and requests for it."""
    found = Written()
    for part in ("huggingface_eval", "torchhub_train", "torchhub_eval", "tensorflow_eval"):
        for row in lines(folder / f"data/apibench/{part}.json"):
            api = row["api_data"]
            key = (str(api["api_name"]), str(api["functionality"]))
            about = f"{api['functionality']}. {api.get('description') or ''}"
            found.tool(key, str(api["api_name"]), str(api["domain"]), about[:600], {})
            asked = re.search(r"[Ii]nstruction['#: ]+(.+?)(?:\n|###|', 'Output')", str(row["code"]))
            found.request(asked[1] if asked else "", [key])
    return found


def restbench(folder: Path) -> Written:
    found = Written()
    for service in ("tmdb", "spotify"):
        spec = read(folder / f"specs/{service}_oas.json")
        for path, methods in spec["paths"].items():
            for method, operation in methods.items():
                if not isinstance(operation, Mapping) or "responses" not in operation:
                    continue
                given = {
                    each["name"]: str(each.get("description", ""))
                    for each in operation.get("parameters", [])
                    if "name" in each
                }
                about = f"{operation.get('summary', '')}. {operation.get('description', '')}"
                found.tool(
                    f"{method.upper()} {path}", f"{method} {path}", spec["info"]["title"], about, given
                )
        for row in read(folder / f"datasets/{service}.json"):
            found.request(row["query"], row["solution"])
    return found


def livemcp(folder: Path) -> Written:
    """Tasks over real MCP servers, with the tools that their annotators used."""
    found = Written()
    for entry in read(folder / "tools/LiveMCPTool/tools.json"):
        for server in entry["tools"].values():
            for tool in server["tools"]:
                schema = tool.get("inputSchema") or {}
                parameters = described(schema.get("properties") or {})
                found.tool(tool["name"], tool["name"], entry["name"], tool["description"], parameters)
    for task in read(folder / "annotated_data/all_annotations.json"):
        used = re.findall(r"\d+\.\s*(\S+)", task["Annotator Metadata"]["Tools"])
        found.request(task["Question"], used)
    return found


def intents(pairs: Iterable[tuple[str, str]]) -> Written:
    """Requests by their intents, whose names are all there is of the tools."""
    found = Written()
    for text, intent in pairs:
        found.tool(intent, intent, "", re.sub(r"[\W_]+", " ", intent), {})
        found.request(text, [intent])
    return found


def clinc(folder: Path) -> Written:
    return intents((text, intent) for text, intent in read(folder / "data/data_full.json")["train"])


def banking(folder: Path) -> Written:
    with (folder / "banking_data/train.csv").open(encoding="utf-8", newline="") as rows:
        return intents((row["text"], row["category"]) for row in list(csv.DictReader(rows)))


def home(folder: Path) -> Written:
    path = next(folder.glob("CrossValidation/*/*/CrossValidation/KFold_1/merged/*.json"))
    examples = read(path)["rasa_nlu_data"]["common_examples"]
    return intents((example["text"], example["intent"]) for example in examples)


def taskbench(folder: Path) -> Written:
    found = Written()
    for part in ("huggingface", "multimedia", "dailylifeapis"):
        data = folder / f"taskbench/data_{part}"
        for tool in read(data / "tool_desc.json")["nodes"]:
            given = {each["name"]: each["desc"] for each in tool.get("parameters", [])}
            found.tool(tool["id"], tool["id"], "", tool["desc"], given)
        for row in lines(data / "user_requests.json"):
            found.text(row["user_request"])
    return found


def public_apis(folder: Path) -> Written:
    found = Written()
    for api in read(folder / "data/public_apis.json")["entries"]:
        found.tool(api["API"], api["API"], api["Category"], api["Description"], {})
    return found


SETS: Mapping[str, tuple[str, str, Callable[[Path], Written]]] = {
    "metatool_more": ("MetaTool", "MIT", metatool),
    "seal": ("Seal-Tools", "Apache-2.0", seal),
    "bfcl": ("gorilla", "Apache-2.0", bfcl),
    "toolbench": ("StableToolBench", "Apache-2.0", toolbench),
    "nestful": ("NESTFUL", "Apache-2.0", nestful),
    "toolalpaca": ("ToolAlpaca", "Apache-2.0", toolalpaca),
    "apibench": ("gorilla", "Apache-2.0", apibench),
    "restbench": ("RestGPT", "MIT", restbench),
    "clinc": ("oos-eval", "CC BY 3.0", clinc),
    "banking": ("task-specific-datasets", "CC BY 4.0", banking),
    "home": ("NLU-Evaluation-Data", "CC BY 4.0", home),
    "taskbench": ("JARVIS", "MIT", taskbench),
    "public_apis": ("ToolAlpaca", "Apache-2.0", public_apis),
    "livemcp": ("LiveMCPBench", "Apache-2.0", livemcp),
}
"""By the set's name: its repository's folder, its licence, and its reader."""


def tool_lists(path: Path) -> Written:
    """The tools of rows `name, description, server, input_schema, license` under a permissive licence."""
    found = Written()
    for place, row in enumerate(lines(path)):
        if row.get("license") in PERMISSIVE:
            properties = (row.get("input_schema") or {}).get("properties") or {}
            found.tool(place, row["name"], row.get("server") or "", row["description"], described(properties))
    return found


def write(found: Written, name: str, folder: Path, asked: frozenset[str]) -> None:
    """The set's two files, without the requests that the benchmark asks."""
    ids = {key: str(place) for place, key in enumerate(found.tools)}
    rows = [{"tool_id": ids[key], **row} for key, row in found.tools.items()]
    requests = [
        {"query": text, "relevant": [ids[key] for key in keys]}
        for text, keys in found.requests
        if text.casefold() not in asked
    ]
    for kind, written in (("tools", rows), ("queries", requests)):
        path = folder / f"retrieval_{name}_{kind}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in written), encoding="utf-8")
    print(f"{name}: {len(rows)} tools, {len(requests)} requests")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repositories", type=Path, required=True, help="their checkouts, by name")
    parser.add_argument("--benchmark", type=Path, required=True, help="the sets that are not to be learned")
    parser.add_argument("--tool-lists", type=Path, help="rows of tools without requests")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    asked = frozenset(
        row["query"].strip().casefold()
        for path in args.benchmark.glob("retrieval_*_queries.jsonl")
        for row in lines(path)
    )
    for name, (repository, _, reader) in SETS.items():
        write(reader(args.repositories / repository), name, args.out, asked)
    if args.tool_lists:
        write(tool_lists(args.tool_lists), "lists", args.out, asked)


if __name__ == "__main__":
    main()
