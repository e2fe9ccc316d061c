# Records and products -> the papers' tables and figures. CSV is only a download in the report: tables enter as HTML.
# `sources` and `absent`: a product behind these that was deleted is made anew; ancient, so that only absence counts.


rule table:
    input:
        plan.table_inputs,
        sources=ancient(plan.table_sources),
    output:
        csv="results/{preset}/{table}.csv",
        md="results/{preset}/{table}.md",
        tex="results/{preset}/{table}.tex",
        html=report(
            "results/{preset}/{table}.html",
            caption="../report/table.rst",
            category="Tables",
            subcategory="{preset}",
            labels=plan.table_labels,
        ),
    log:
        "results/{preset}/logs/{table}.log",
    localrule: True
    params:
        spec=plan.table_spec,
        code=plan.table_code,
        absent=plan.table_absent,
    shell:
        "python -m workflow.warm table {wildcards.table} --preset {wildcards.preset}"
        " --out results/{wildcards.preset} > {log} 2>&1"


rule overview:
    input:
        plan.overview_inputs,
        sources=ancient(plan.overview_sources),
    output:
        html=report(
            "results/{preset}/overview.html",
            caption="../report/overview.rst",
            category="Overview",
            subcategory="{preset}",
            labels=plan.overview_labels,
        ),
    log:
        "results/{preset}/logs/overview.log",
    localrule: True
    params:
        spec=plan.table_spec,
        code=plan.overview_code,
        absent=plan.overview_absent,
    shell:
        "python -m workflow.warm overview --preset {wildcards.preset} --out {output.html} > {log} 2>&1"


rule claims:
    input:
        plan.claim_inputs,
        sources=ancient(plan.claim_sources),
    output:
        csv="results/{preset}/claims.csv",
        md="results/{preset}/claims.md",
        tex="results/{preset}/claims.tex",
        pdf="results/{preset}/claims.pdf",
        html=report(
            "results/{preset}/claims.html",
            caption="../report/claims.rst",
            category="Claims",
            subcategory="{preset}",
            labels=plan.claim_labels,
        ),
        png=report(
            "results/{preset}/claims.png",
            caption="../report/claims.rst",
            category="Claims",
            subcategory="{preset}",
            labels=plan.claim_labels,
        ),
    log:
        "results/{preset}/logs/claims.log",
    localrule: True
    params:
        spec=plan.claim_spec,
        code=plan.claim_code,
        absent=plan.claim_absent,
    shell:
        "python -m workflow.warm claims --preset {wildcards.preset} --out results/{wildcards.preset} > {log} 2>&1"


rule figure:
    input:
        plan.figure_inputs,
        sources=ancient(plan.figure_sources),
    output:
        pdf="results/{preset}/figures/{figure}.pdf",
        png=report(
            "results/{preset}/figures/{figure}.png",
            caption="../report/figure.rst",
            category="Figures",
            subcategory="{preset}",
            labels=plan.figure_labels,
        ),
    log:
        "results/{preset}/logs/figure_{figure}.log",
    localrule: True
    params:
        spec=plan.figure_spec,
        code=plan.figure_code,
        absent=plan.figure_absent,
        caption=plan.figure_caption,
    shell:
        "python -m workflow.warm figure {wildcards.figure} --preset {wildcards.preset}"
        " --out results/{wildcards.preset}/figures > {log} 2>&1"


rule publish_table:
    input:
        csv="results/paper/{table}.csv",
        md="results/paper/{table}.md",
        tex="results/paper/{table}.tex",
        html="results/paper/{table}.html",
    output:
        csv="results/{table}.csv",
        md="results/{table}.md",
        tex="results/{table}.tex",
        html="results/{table}.html",
    log:
        "results/logs/{table}.log",
    localrule: True
    shell:
        "cp {input.csv} {input.md} {input.tex} {input.html} results/ > {log} 2>&1"


rule publish_claims:
    input:
        [f"results/paper/claims.{ending}" for ending in plan.CLAIM_FORMATS],
    output:
        [f"results/claims.{ending}" for ending in plan.CLAIM_FORMATS],
    log:
        "results/logs/claims.log",
    localrule: True
    shell:
        "cp {input} results/ > {log} 2>&1"


rule publish_figure:
    input:
        pdf="results/paper/figures/{figure}.pdf",
        png="results/paper/figures/{figure}.png",
    output:
        pdf="results/figures/{figure}.pdf",
        png="results/figures/{figure}.png",
    log:
        "results/logs/figure_{figure}.log",
    localrule: True
    shell:
        "cp {input.pdf} {input.png} results/figures/ > {log} 2>&1"
