# Downloads: the only stage that may open a socket.


rule fetch:
    output:
        record="results/data/{dataset}/fetch.json",
    log:
        "results/data/{dataset}/logs/fetch.log",
    localrule: True
    params:
        arguments=params.fetch_arguments,
        replaced=params.replaced_raw,
        code=params.fetch_code,
    message:
        "fetch the raw files of {wildcards.dataset}"
    shell:
        "python -m workflow.commands.fetch {params.arguments} --replaced '{params.replaced}'"
        " --out {output.record} > {log} 2>&1"


rule inception:
    output:
        "results/data/inception.json",
    log:
        "results/data/logs/inception.log",
    localrule: True
    params:
        weights=params.INCEPTION_WEIGHTS,
        code=jobcode.code("inception"),
    message:
        "fetch the Inception network"
    shell:
        'python -m workflow.commands.inception --weights "$DTRI_DOWNLOADS/{params.weights}" --out {output} > {log} 2>&1'
