"""What a trained folder says about itself: t5serve.json and the model card."""
from pathlib import Path

import texts

N_BEAMS = 4


def profile(name, template, directions):
    """t5serve.json, see models/README.md."""
    return {"name": name, "template": template, "pairs": [list(d) for d in directions],
            "defaults": {"num_beams": N_BEAMS}}


def source_lines(data):
    """What the manifest of prepare.py says of the texts; nothing is made up where there is none."""
    path = Path(data) / "manifest.json"
    if not path.exists():
        return ["The training texts came without a manifest: where they are from and their licence are not known."]
    manifest = texts.read_json(path)
    lines = [f"- {'-'.join(source['languages'])}: {source['lines']} lines of "
             f"{', '.join(file['name'] for file in source['files'])}; licence: {source['license']}"
             for source in manifest.get("sources", [])]
    if "distilled_from" in manifest:
        teacher = manifest["distilled_from"]
        lines.append(f"- the targets are translations by the model {teacher['name']}, {teacher['num_beams']} beams")
    return lines


def card(name, data, session, directions):
    """README.md of the folder, in the form of Hugging Face's model cards."""
    config, settings = session.model.config, session.settings
    codes = sorted({code for direction in directions for code in direction})
    n_parameters = sum(parameter.numel() for parameter in session.model.parameters())
    best = "no valid sentences" if session.best_loss is None else f"valid loss {session.best_loss:.4f} per token"
    return "\n".join([
        "---", "license: other", f"language: [{', '.join(codes)}]", "pipeline_tag: translation", "---", f"# {name}",
        f"A T5 translation model: {', '.join(texts.direction_name(d) for d in directions)}. "
        f"Serve it with `t5serve --model` and this folder.", "",
        f"{n_parameters / 1e6:.1f} M parameters: d_model {config.d_model}, d_ff {config.d_ff}, d_kv {config.d_kv}, "
        f"{config.num_heads} heads, {config.num_layers} encoder and {config.num_decoder_layers} decoder layers, "
        f"vocabulary {config.vocab_size}.", "",
        "## Data", *source_lines(data), "",
        "## Training",
        f"{session.step} steps, {session.n_tokens / 1e6:.1f} M tokens, {session.seconds / 60:.0f} minutes; {best}.", "",
        "| setting | value |", "| --- | --- |",
        *(f"| {key} | {value} |" for key, value in settings.items()
          if key.startswith("--") and value is not None), ""])
