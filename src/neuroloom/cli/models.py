"""What fitted models are asked outside of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from neuroloom.cli.app import DEFAULT, command, failing_plainly, merged, results_of

PUBLISHED = {
    "braintokenizer": ("neuroloom.tokenizers.braintokenizer", "BrainTokenizer"),
    "reve": ("neuroloom.models.reve", "REVE"),
    "brainomni": ("neuroloom.models.brainomni", "BrainOmni"),
    "labram": ("neuroloom.models.labram", "LaBraM"),
    "neurobolt": ("neuroloom.models.neurobolt", "NeuroBOLT"),
}


@command()
def import_weights(
    architecture: Annotated[
        Literal["braintokenizer", "reve", "brainomni", "labram", "neurobolt"],
        typer.Argument(help="What the weights are of."),
    ],
    path: Annotated[Path, typer.Argument(help="Published weights, .safetensors or .pt.")],
    out: Annotated[
        Path, typer.Argument(help="Folder to make; `weights` of a tokenizer or model in a config names it.")
    ],
    config: Annotated[
        Path | None, typer.Option(help="Settings; default the model_cfg.json beside PATH, or those within PATH.")
    ] = None,
    seen: Annotated[
        list[str] | None,
        typer.Option(help="Study whose people the weights were trained on; repeat. Without any, all count as seen."),
    ] = None,
) -> None:
    """Import published weights: every tensor is used, none is missing.

    Example: neuroloom import-weights braintokenizer BrainTokenizer.pt weights/braintokenizer --seen tuab
    """
    from importlib import import_module

    from neuroloom.evaluation.contamination import EVERYONE, seen_datasets
    from neuroloom.provenance import file_digest
    from neuroloom.published import read_published, read_settings
    from neuroloom.schema import ConfigError
    from neuroloom.training.checkpoint import write_card

    place, name = PUBLISHED[architecture]
    with failing_plainly():
        state, settings = read_published(path), read_settings(path, config)
        try:
            model = getattr(import_module(place), name).from_official(state, settings)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        model.save(out)
        card = {"architecture": architecture, "imported_from": file_digest(path)}
        # whom the authors trained on does not stand in the file
        people = {"salt": "", "seen_subjects": seen_datasets(*(seen or [EVERYONE]))}
        write_card(out, {**card, **people})
    typer.echo(f"{architecture}: {sum(param.numel() for param in model.parameters()):,} parameters")
    typer.echo(f"Weights: {out}")


@command()
def embed(
    recording: Annotated[str, typer.Argument(help="Recording of the study, preprocessed store, or raw EEG/MEG file.")],
    model: Annotated[Path, typer.Option(help="Folder of a model or tokenizer, fitted or imported.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")] = Path("features.parquet"),
    config: Annotated[Path, typer.Option(help="Config of the study, which says how a file is cleaned.")] = DEFAULT,
    window: Annotated[float | None, typer.Option(help="Length of a window, s; default: as stored.")] = None,
) -> None:
    """Features of a recording by a model or a tokenizer, one row a window; notes whether the model has met the person.

    Example: neuroloom embed sub-01_task-rest_eeg.edf --model results/demo/pretrain/reve/fold-0 --out features.parquet
    """
    from neuroloom.config import parse_config
    from neuroloom.embedding import embed_recording, has_seen, write_features
    from neuroloom.preparing import prepared

    with failing_plainly():
        settings = parse_config(merged(config))
        with prepared(recording, config=settings, results=results_of(config)) as found:
            table = embed_recording(found.artifact, model, window=window)
            seen = has_seen(model, found.row)
        write_features(table, out, facts={"model": str(model), "seen_in_training": seen})
    typer.echo(f"{len(table)} windows of {table.shape[1] - 2} features: {out}")
    typer.echo(f"The model has met this person: {seen}")


@command()
def predict_bold(
    recording: Annotated[str, typer.Argument(help="Recording of the study, preprocessed store, or raw EEG file.")],
    model: Annotated[Path, typer.Option(help="Fold of a fitted ridge or haemodynamic model of synthesis.")],
    out: Annotated[Path, typer.Option(help="File to write: .parquet or .nii.gz.")] = Path("bold.parquet"),
    config: Annotated[Path, typer.Option(help="Config of the study, which says how a file is cleaned.")] = DEFAULT,
    t_r: Annotated[float | None, typer.Option(help="Time between volumes, s; default: that of training.")] = None,
    atlas: Annotated[str | None, typer.Option(help="Of an image; default: the config's.")] = None,
) -> None:
    """BOLD that a model expects of one EEG recording, parcels by volumes, with its uncertainty.

    Example: neuroloom predict-bold sub-01_task-rest_eeg.edf --model results/demo/synthesize/subject/fitted/ridge/fold-0
    """
    from neuroloom.config import parse_config
    from neuroloom.embedding import has_seen
    from neuroloom.preparing import prepared
    from neuroloom.synthesis.fitted import load_fitted, predict_eeg, write_predicted

    with failing_plainly():
        settings = parse_config(merged(config))
        fitted = load_fitted(model)
        with prepared(recording, config=settings, results=results_of(config)) as source:
            found = predict_eeg(source.artifact, fitted, t_r=t_r)
            seen = has_seen(model, source.row)
        facts = {"model": str(model), "seen_in_training": seen, "recording": recording}
        write_predicted(found, out, atlas=atlas or settings.preprocess.bold.atlas, facts=facts)
    typer.echo(
        f"{len(found.parcels)} parcels, {len(found.onset_V)} volumes of {found.t_r:g} s, in SDs of training: {out}"
    )
    typer.echo(f"The model has met this person: {seen}")
