# Records and products -> the papers' tables and figures. The report shows tables as HTML; CSV is only a download there.
# By `sources` and `absent` a deleted product behind the inputs is made anew; `ancient`, so that only absence counts.


rule table:
    input:
        params.table_records,
        sources=ancient(params.table_sources),
    output:
        csv="results/{preset}/{table}.csv",
        md="results/{preset}/{table}.md",
        tex="results/{preset}/{table}.tex",
        html=report(
            "results/{preset}/{table}.html",
            caption="../report/table.rst",
            category="Tables",
            subcategory="{preset}",
            labels=params.table_labels,
        ),
    log:
        "results/{preset}/logs/{table}.log",
    localrule: True
    params:
        spec=params.table_spec,
        code=params.table_code,
        absent=params.table_absent,
    message:
        "write {wildcards.table} of {wildcards.preset}"
    shell:
        "python -m workflow.forkserver table {wildcards.table} --preset {wildcards.preset}"
        " --out results/{wildcards.preset} > {log} 2>&1"


rule overview:
    input:
        params.overview_records,
        sources=ancient(params.overview_sources),
    output:
        runs="results/{preset}/runs/index.html",
        html=report(
            "results/{preset}/overview.html",
            caption="../report/overview.rst",
            category="Overview",
            subcategory="{preset}",
            labels=params.overview_labels,
        ),
    log:
        "results/{preset}/logs/overview.log",
    localrule: True
    params:
        spec=params.overview_spec,
        code=params.overview_code,
        absent=params.overview_absent,
    message:
        "write the landing page and the pages of runs of {wildcards.preset}"
    shell:
        "python -m workflow.forkserver overview --preset {wildcards.preset} --out {output.html} > {log} 2>&1"


# It has no inputs: it lists what there is at this moment, and makes nothing else.
rule measured:
    output:
        csv="results/{preset}/all.csv",
    log:
        "results/{preset}/logs/all.log",
    localrule: True
    params:
        records=params.measured_records,
        code=params.measured_code,
    message:
        "list all that was measured in {wildcards.preset}"
    shell:
        "python -m workflow.forkserver measured --preset {wildcards.preset} --out {output.csv} > {log} 2>&1"


rule claims:
    input:
        params.claim_records,
        sources=ancient(params.claim_sources),
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
            labels=params.claim_labels,
        ),
        png=report(
            "results/{preset}/claims.png",
            caption="../report/claims.rst",
            category="Claims",
            subcategory="{preset}",
            labels=params.claim_labels,
        ),
    log:
        "results/{preset}/logs/claims.log",
    localrule: True
    params:
        spec=params.claim_spec,
        code=params.claim_code,
        absent=params.claim_absent,
    message:
        "judge the claims of {wildcards.preset}"
    shell:
        "python -m workflow.forkserver claims --preset {wildcards.preset} --out results/{wildcards.preset} > {log} 2>&1"


rule figure:
    input:
        params.figure_products,
        sources=ancient(params.figure_sources),
    output:
        pdf="results/{preset}/figures/{figure}.pdf",
        png=report(
            "results/{preset}/figures/{figure}.png",
            caption="../report/figure.rst",
            category="Figures",
            subcategory="{preset}",
            labels=params.figure_labels,
        ),
    log:
        "results/{preset}/logs/figure_{figure}.log",
    localrule: True
    params:
        spec=params.figure_spec,
        code=params.figure_code,
        absent=params.figure_absent,
        caption=params.figure_caption,
    message:
        "draw {wildcards.figure} of {wildcards.preset}"
    shell:
        "python -m workflow.forkserver figure {wildcards.figure} --preset {wildcards.preset}"
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
    params:
        absent=params.published_table_absent,
    message:
        "publish {wildcards.table}"
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
    params:
        absent=params.published_claims_absent,
    message:
        "publish the claims"
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
    params:
        absent=params.published_figure_absent,
    message:
        "publish {wildcards.figure}"
    shell:
        "cp {input.pdf} {input.png} results/figures/ > {log} 2>&1"
