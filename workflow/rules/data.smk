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
        mem_mb=4000,
        runtime=240,
    params:
        arguments=params.prepare_arguments,
        code=params.prepare_code,
    shell:
        "python -m workflow.commands.prepare {params.arguments} --code {params.code} > {log} 2>&1"


rule prepare_ood:
    input:
        params.prepare_inputs,
    output:
        test="results/data/{dataset}/test.npy",
        index="results/data/{dataset}/index.npz",
        meta="results/data/{dataset}/meta.json",
    log:
        "results/data/{dataset}/logs/prepare.log",
    wildcard_constraints:
        dataset=params.dataset_pattern("ood"),
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        arguments=params.prepare_arguments,
        code=params.prepare_code,
    shell:
        "python -m workflow.commands.prepare {params.arguments} --code {params.code} > {log} 2>&1"


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
        mem_mb=4000,
        runtime=60,
    params:
        arguments=params.prepare_arguments,
        code=params.prepare_code,
    shell:
        "python -m workflow.commands.prepare {params.arguments} --code {params.code} > {log} 2>&1"


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
        mem_mb=4000,
        runtime=60,
    params:
        folder=params.data_folder,
        code=plan.code("classifier"),
    shell:
        "python -m workflow.warm classifier --data {params.folder} --code {params.code} --out {output.weights}"
        " --summary {output.summary} > {log} 2>&1"
