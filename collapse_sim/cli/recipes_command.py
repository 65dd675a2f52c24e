"""`collapse-sim recipes ...`: list, show, copy and check recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from collapse_sim.cli.columns import terms
from collapse_sim.cli.examples import complete_recipe, examples
from collapse_sim.cli.options import PluginsOption
from collapse_sim.core.errors import RecipeError
from collapse_sim.ui.console import data, document, say, say_logs

app = typer.Typer(help="List, show and copy shipped recipes; check your own.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


@app.command("list", epilog=examples("recipes list"))
def list_recipes(as_json: AsJson = False) -> None:
    """List the shipped recipes: name, what each shows, what it needs."""
    from collapse_sim.analysis.terminal import stdout_width
    from collapse_sim.recipe import shipped

    summaries = [_summary(shipped.path(name)) for name in shipped.names()]
    if as_json:
        document(summaries)
    else:
        rows = [
            (
                entry["name"],
                entry["description"] + (f" (needs: {entry['needs']})" if entry["needs"] != "nothing" else ""),
            )
            for entry in summaries
        ]
        data(terms(rows, stdout_width()))


@app.command(epilog=examples("recipes show quickstart"))
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped recipe.", autocompletion=complete_recipe)],
) -> None:
    """Print a shipped recipe."""
    from collapse_sim.recipe import shipped

    data(shipped.path(name).read_text(encoding="utf-8"))


@app.command(epilog=examples("recipes copy quickstart mine.yaml"))
def copy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped recipe.", autocompletion=complete_recipe)],
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="A file, or a folder to put NAME.yaml into.")] = Path(),
) -> None:
    """Copy a shipped recipe in order to change it."""
    from collapse_sim.recipe import shipped

    source = shipped.path(name)
    target = dest / source.name if dest.is_dir() else dest
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(source.read_text(encoding="utf-8"))
    except FileExistsError as error:
        raise RecipeError(
            f"{target}: exists already; choose another file, as in `recipes copy {name} my.yaml`"
        ) from error
    except OSError as error:
        raise RecipeError(f"{target}: cannot be written: {error.strerror}") from error
    data(str(target))


@app.command(epilog=examples("recipes validate mine.yaml"))
def validate(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Recipe files, or names of shipped recipes.")],
    plugins: PluginsOption = None,
    as_json: AsJson = False,
) -> None:
    """Check recipes.

    Both at full size and at smoke size. Every problem is reported with its file and line.
    """
    say_logs(quiet=True)  # notes on what a smoke size leaves out do not matter here
    results = [_check(file, plugins) for file in files]
    problems = [problem for result in results for problem in result["problems"]]
    if as_json:
        document(results)
    else:
        for result in results:
            if result["ok"]:
                data(f"{result['file']}: ok: {result['size']}")
        for problem in problems:
            say(problem)
    if problems:
        raise typer.Exit(RecipeError.exit_code)


@app.command()
def schema() -> None:
    """Print a JSON Schema of recipes, for use in editors."""
    from collapse_sim.recipe.catalogue import recipe_schema

    document(recipe_schema())


def _summary(file: Path) -> dict[str, Any]:
    from collapse_sim.recipe import shipped
    from collapse_sim.recipe.extends import read_recipe
    from collapse_sim.recipe.problems import Problems

    description = str(read_recipe(file, Problems()).get("description", "")).strip().partition("\n")[0]
    return {
        "name": file.stem,
        "description": description,
        "needs": "nothing",
        **shipped.header(file),
        "file": str(file),
    }


def _check(file: str, plugins: bool | None) -> dict[str, Any]:
    """{file, ok, size, problems} of one recipe."""
    from collapse_sim.recipe import shipped
    from collapse_sim.recipe.extends import read_recipe
    from collapse_sim.recipe.loader import load
    from collapse_sim.recipe.problems import Problems

    problems: dict[str, None] = {}
    size = ""
    try:
        sizes = (False, True) if "smoke" in read_recipe(shipped.find(file), Problems()) else (False,)
    except RecipeError as error:
        return {"file": file, "ok": False, "size": size, "problems": list(error.problems)}
    for smoke in sizes:
        try:
            recipe = load(file, smoke=smoke, plugins=plugins)
        except RecipeError as error:
            problems |= dict.fromkeys(error.problems)
        else:
            if not smoke:
                arms, seeds = len(recipe.arms), len(recipe.seeds)
                size = f"{arms} arms x {seeds} seeds x {recipe.generations + 1} generations"
    return {"file": file, "ok": not problems, "size": size, "problems": list(problems)}
