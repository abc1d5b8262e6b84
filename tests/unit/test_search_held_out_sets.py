"""How the sets that only measure become tools with requests."""

import json
from pathlib import Path

from scripts.held_out_readers import acebench, azure_mcp, tooltalk


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_the_first_turn_of_a_conversation_asks_for_what_answers_it(tmp_path: Path) -> None:
    data = tmp_path / "data_all/data_en"
    function = {"name": "sky", "description": "Eclipses.", "parameters": {"properties": {"year": {}}}}
    row = {"id": 1, "question": "user: When is it dark?\nsystem: Where?\nuser: Here.", "function": [function]}
    for part in ("atom_bool", "atom_enum", "atom_list", "atom_number", "atom_object_deep"):
        put(data / f"data_normal_{part}.json", "")
        put(data / f"possible_answer/data_normal_{part}.json", "")
    for part in ("atom_object_short", "preference", "similar_api", "single_turn_parallel_function"):
        put(data / f"data_normal_{part}.json", "")
        put(data / f"possible_answer/data_normal_{part}.json", "")
    put(data / "data_normal_single_turn_single_function.json", json.dumps(row))
    answer = json.dumps({"id": 1, "ground_truth": [{"sky_1": {"year": 1}}]})
    put(data / "possible_answer/data_normal_single_turn_single_function.json", answer)
    assert acebench(tmp_path).requests == [("When is it dark?", [("sky", "Eclipses.")])]


def test_a_turn_asks_for_the_functions_that_are_called_next(tmp_path: Path) -> None:
    code = "class Look(API):\n    description = 'Looks.'\n    parameters = {'at': {'description': 'What.'}}\n"
    put(tmp_path / "src/tooltalk/apis/eyes.py", code)
    turns = [
        {"role": "user", "text": "What is there?"},
        {"role": "assistant", "apis": [{"request": {"api_name": "Look"}}]},
    ]
    put(tmp_path / "data/easy/one.json", json.dumps({"conversation": turns}))
    assert tooltalk(tmp_path).requests == [("What is there?", ["Look"])]


def test_a_tool_of_azure_is_named_by_its_groups_and_asked_for_by_its_prompts(tmp_path: Path) -> None:
    command = (
        '[CommandMetadata(\n Name = "list",\n Title = "T",\n Description = "Lists " + "blobs.")]\n'
        "public sealed class BlobListCommand(ILogger logger)"
    )
    setup = (
        'string Name => "storage";\nvar all = new CommandGroup(Name, "");\n'
        'var blobs = new CommandGroup("blob", "");\nall.AddSubGroup(blobs);\n'
        "blobs.AddCommand<BlobListCommand>(services);"
    )
    put(tmp_path / "tools/Storage/src/Commands/BlobListCommand.cs", command)
    put(tmp_path / "tools/Storage/src/StorageSetup.cs", setup)
    prompts = (
        "| Tool Name | Test Prompt | Interaction |\n| storage_blob_list | Show \\<my\\> blobs | none |\n"
    )
    put(tmp_path / "servers/Azure.Mcp.Server/docs/e2eTestPrompts.md", prompts)
    found = azure_mcp(tmp_path)
    assert found.tools["storage_blob_list"]["description"] == "Lists blobs."
    assert found.requests == [("Show <my> blobs", ["storage_blob_list"])]
