"""Both papers' tables and figures, from data to report.

snakemake --cores 2 demo                      everything at toy scale, minutes on a laptop
snakemake --cores 8 results/table1.csv        the paper preset's Table 1
snakemake --cores 2 results/lite/table4.csv   real data, cut budgets
"""

import sys

from snakemake.utils import min_version

from workflow import session

min_version("9.27")


try:
    session.configure(config)  # first, since an overlay adds to what the others read
    from workflow import checks, clock, configuration, console, forkserver, jobcode, memory, params, plan, reruns

    checks.check_configuration()
    for word in sys.argv[1:] if workflow.modifier.is_main_snakefile() else ():  # a module's user has own targets
        checks.check_target(word)
except (ValueError, OSError) as error:
    sys.exit(f"error: {error}")

# Jobs run with this interpreter, wherever snakemake was started from; device and offline mode reach them as they are.
shell.prefix(session.shell_prefix(sys.executable))
session.ignore_sigusr1_under_slurm()
session.stop_on_any_sigterm()
clock.forgive()
reruns.by_values()
console.full_jobs()


# Used only on request (--software-deployment-method apptainer); dtri.def says how to build it.
container: "dtri.sif"


report: "workflow/report/workflow.rst"


wildcard_constraints:
    preset="|".join(configuration.presets()),
    dataset="[a-z0-9_]+",
    model=f"[a-z0-9_]+|{configuration.VARIANT}",
    seed="[0-9]+",
    extractor="inception|domain|imagenet_lite",
    scored="[a-z0-9_]+",
    against="[a-z0-9_]+",
    split="train|test|test_leaky",
    table="|".join(plan.TABLES),
    figure="|".join(plan.FIGURES),


include: "workflow/rules/fetch.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        expand("results/{table}.{ending}", table=plan.TABLES, ending=["csv", "md", "tex", "html"]),
        expand("results/figures/{figure}.{ending}", figure=plan.FIGURES, ending=["png", "pdf"]),
        expand("results/claims.{ending}", ending=plan.CLAIM_FORMATS),
        plan.preset_products(configuration.preset("paper")),


rule demo:
    input:
        plan.preset_products(configuration.preset("demo")),


rule lite:
    input:
        plan.preset_products(configuration.preset("lite")),


onstart:
    session.lock_run()
    forkserver.start()
    console.one_line_a_job(len(workflow.dag))
