# Images and scores -> records.


rule generation:
    input:
        samples="results/{preset}/{dataset}/{model}/seed{seed}/samples.npy",
        variants="results/{preset}/{dataset}/{model}/seed{seed}/samples_variants.npz",
        summary="results/{preset}/{dataset}/{model}/seed{seed}/train.json",
        train="results/data/{dataset}/train.npy",
        test="results/data/{dataset}/test.npy",
        meta="results/data/{dataset}/meta.json",
        extractor=params.extractor_files,
    output:
        fid="results/{preset}/{dataset}/{model}/seed{seed}/metrics/fid_{extractor}.json",
        isc="results/{preset}/{dataset}/{model}/seed{seed}/metrics/is_{extractor}.json",
        kid="results/{preset}/{dataset}/{model}/seed{seed}/metrics/kid_{extractor}.json",
        prc="results/{preset}/{dataset}/{model}/seed{seed}/metrics/prc_{extractor}.json",
    log:
        "results/{preset}/{dataset}/{model}/seed{seed}/logs/generation_{extractor}.log",
    threads: params.threads
    resources:
        device=params.device,
        gpu=params.gpus,
        # The peak was 2,233 MiB with the domain classifier, for 50,000 samples against 50,000 images of 3x32x32. On top
        # come features of the Inception graph: 50,000 x 2,048 x 4 bytes = 391 MiB a copy, twice that in KID's float64.
        mem_mb=12000,
        runtime=240,
    params:
        spec=params.generation_spec,
        network=params.network,
        folder=params.folder,
        code=params.code_of("generation"),
    message:
        "measure generation of {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed} by {wildcards.extractor}"
    shell:
        "python -m workflow.forkserver generation --samples {input.samples} --variants {input.variants} --train {input.summary}"
        " --spec {params.spec:q} --code {params.code} --extractor {wildcards.extractor} {params.network}"
        " --data results/data/{wildcards.dataset} --cache results/data/{wildcards.dataset}/features"
        " --device {resources.device} --threads {threads} --out {params.folder} > {log} 2>&1"


rule auroc:
    input:
        summary="results/{preset}/{dataset}/{model}/seed{seed}/train.json",
        scores="results/{preset}/{dataset}/{model}/seed{seed}/scores/{dataset}__test.npz",
        against="results/{preset}/{dataset}/{model}/seed{seed}/scores/{against}__test.npz",
        meta="results/data/{against}/meta.json",
    output:
        record="results/{preset}/{dataset}/{model}/seed{seed}/metrics/auroc_{against}.json",
    log:
        "results/{preset}/{dataset}/{model}/seed{seed}/logs/auroc_{against}.log",
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=params.code_of("auroc"),
    message:
        "measure AUROC against {wildcards.against} of {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "python -m workflow.forkserver ranking --train {input.summary} --code {params.code} --scores {input.scores}"
        " --against {input.against} --against-data results/data/{wildcards.against} --out {output.record} > {log} 2>&1"


rule auprc:
    input:
        summary="results/{preset}/{dataset}/{model}/seed{seed}/train.json",
        test="results/{preset}/{dataset}/{model}/seed{seed}/scores/{dataset}__test.npz",
        leaky="results/{preset}/{dataset}/{model}/seed{seed}/scores/{dataset}__test_leaky.npz",
        index="results/data/{dataset}/index.npz",
        meta="results/data/{dataset}/meta.json",
    output:
        test="results/{preset}/{dataset}/{model}/seed{seed}/metrics/auprc.json",
        leaky="results/{preset}/{dataset}/{model}/seed{seed}/metrics/auprc_leaky.json",
    log:
        "results/{preset}/{dataset}/{model}/seed{seed}/logs/auprc.log",
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=params.code_of("auprc"),
    message:
        "measure AUPRC of {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "python -m workflow.forkserver ranking --train {input.summary} --code {params.code} --labels-of results/data/{wildcards.dataset}"
        " --scores {input.test} {input.leaky} --split test test_leaky --out {output.test} {output.leaky}"
        " > {log} 2>&1"
