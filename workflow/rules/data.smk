# Raw files -> uint8 arrays, once.


rule prepare:
    input:
        params.prepare_inputs,
    output:
        train="results/data/{dataset}/train.npy",
        test="results/data/{dataset}/test.npy",
        index="results/data/{dataset}/index.npz",
        meta="results/data/{dataset}/meta.json",
    log:
        "results/data/{dataset}/logs/prepare.log",
    wildcard_constraints:
        dataset=params.dataset_pattern("trainable"),
    resources:
        mem_mb=memory.prepare,
        runtime=240,
    params:
        module=params.module,
        image_shape=params.image_shape,
        options=params.options,
        raw=params.raw,
        code=params.prepare_code,
    message:
        "prepare {wildcards.dataset}"
    shell:
        "python -m workflow.commands.prepare --module {params.module} --image-shape {params.image_shape}"
        ' --options {params.options:q} --raw "$DTRI_DOWNLOADS/{params.raw}"'
        " --name {wildcards.dataset} --code {params.code} --out results/data/{wildcards.dataset} > {log} 2>&1"


use rule prepare as prepare_ood with:
    output:
        test="results/data/{dataset}/test.npy",
        index="results/data/{dataset}/index.npz",
        meta="results/data/{dataset}/meta.json",
    wildcard_constraints:
        dataset=params.dataset_pattern("ood"),
    resources:
        mem_mb=memory.prepare,
        runtime=60,


rule prepare_holdout:
    input:
        params.prepare_inputs,
    output:
        train="results/data/{dataset}/train.npy",
        test="results/data/{dataset}/test.npy",
        leaky="results/data/{dataset}/test_leaky.npy",
        index="results/data/{dataset}/index.npz",
        meta="results/data/{dataset}/meta.json",
    log:
        "results/data/{dataset}/logs/prepare.log",
    wildcard_constraints:
        dataset=params.dataset_pattern("holdout"),
    resources:
        mem_mb=memory.prepare,
        runtime=60,
    params:
        source=params.holdout_of,
        digit=params.digit,
        code=params.prepare_code,
    message:
        "prepare {wildcards.dataset}"
    shell:
        "python -m workflow.commands.prepare --holdout-of {params.source} --digit {params.digit}"
        " --name {wildcards.dataset} --code {params.code} --out results/data/{wildcards.dataset} > {log} 2>&1"


rule classifier:
    input:
        train="results/data/{dataset}/train.npy",
        test="results/data/{dataset}/test.npy",
        index="results/data/{dataset}/index.npz",
        meta="results/data/{dataset}/meta.json",
    output:
        weights="results/data/{dataset}/classifier.safetensors",
        summary="results/data/{dataset}/classifier.json",
    log:
        "results/data/{dataset}/logs/classifier.log",
    resources:
        mem_mb=memory.classifier,
        runtime=60,
    params:
        code=jobcode.code("classifier"),
    message:
        "train the classifier of {wildcards.dataset}"
    shell:
        "python -m workflow.forkserver classifier --data results/data/{wildcards.dataset} --code {params.code} --out {output.weights}"
        " --summary {output.summary} > {log} 2>&1"
