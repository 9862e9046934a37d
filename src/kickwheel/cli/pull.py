"""`kickwheel pull`"""

import click

from kickwheel.cli.show import json_option, progress, show_json


@click.command()
@click.argument("model")
@json_option
def command(model: str, as_json: bool) -> None:
    """Get MODEL, check it, and keep it for offline use.

    MODEL is a name of the catalog (smollm2-135m), a GGUF file, a folder with safetensors, or
    hf:organisation/name.
    """
    from kickwheel.models.catalog import pull

    with progress(f"pull {model}") as bar:
        base = pull(model, on_progress=bar.update)
    if as_json:
        show_json(base)
        return
    click.echo(f"{base.name}  {base.gguf}  sha256 {base.sha256[:16]}…")
