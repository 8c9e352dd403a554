"""One rule for each figure of the gallery and for each table of the paper, of the parts that this study has."""

from neuroloom.figures.gallery import FORMATS, SECTIONS, drawn_from, label
from neuroloom.figures.listings import listed_from

STYLE = resource_digest("figure.mplstyle")
DRAWN, WRITTEN = [], []  # figures as PNG, and tables as LaTeX


localrules:
    figures,


for figure, drawing in drawn_from(TABLES).items():
    DRAWN.append(f"{RESULTS}/figures/{figure}.png")

    rule:
        """Draw one figure of the gallery from its tables, and from nothing else."""
        name:
            f"draw_{figure}"
        input:
            [TABLES[table] for table in drawing.needs(TABLES)],
        output:
            report(
                DRAWN[-1],
                category=SECTIONS[figure.partition("_")[0]],
                labels={"figure": label(figure), "title": drawing.title},
                caption=f"../resources/captions/{figure}.rst",
            ),
            [f"{RESULTS}/figures/{figure}.{ending}" for ending in FORMATS[1:]],
        log:
            f"{LOGS}/draw_{figure}/draw_{figure}.log",
        benchmark:
            f"{BENCHMARKS}/draw_{figure}/draw_{figure}.tsv"
        group:
            "report"
        conda:
            "../envs/signal.yaml"
        threads: 1
        resources:
            mem_mb=growing(2000),
            runtime=growing(10),
        params:
            figure=figure,
            source=[source_digest(drawing.module, "neuroloom.figures.style"), STYLE],
        message:
            f"draw {figure}"
        script:
            "../src/draw_figure.py"


for table, listing in listed_from(TABLES).items():
    WRITTEN.append(f"{RESULTS}/figures/tables/{table}.tex")

    rule:
        """Write one table of the paper as LaTeX and csv."""
        name:
            f"write_{table}"
        input:
            [TABLES[name] for name in listing.tables],
        output:
            tex=WRITTEN[-1],
            csv=f"{RESULTS}/figures/tables/{table}.csv",
        log:
            f"{LOGS}/write_{table}/write_{table}.log",
        benchmark:
            f"{BENCHMARKS}/write_{table}/write_{table}.tsv"
        group:
            "report"
        conda:
            "../envs/plot.yaml"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(10),
        params:
            table=table,
            source=source_digest("neuroloom.figures.latex", "neuroloom.figures.listing_rows"),
        message:
            f"write the table {table}"
        script:
            "../src/write_table.py"


rule figures:
    """All figures and tables of the paper (`make figures` draws them from the tables of the study alone)."""
    input:
        DRAWN,
        WRITTEN,
