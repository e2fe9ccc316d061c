# Trained maps -> images and scores.
# mem_mb: libraries take 0.7 GB (peak of a process that imports them). A batch of samples or energies at full width
# takes at most 0.5 GB on the CPU (counted on meta tensors), 50,000 images of 32x32 twice 0.15 GB.


rule sample:
    input:
        model="results/{preset}/{dataset}/{model}/seed{seed}/model.safetensors",
    output:
        samples=temp("results/{preset}/{dataset}/{model}/seed{seed}/samples.npy"),
        variants=temp("results/{preset}/{dataset}/{model}/seed{seed}/samples_variants.npz"),
    log:
        "results/{preset}/{dataset}/{model}/seed{seed}/logs/sample.log",
    threads: params.threads
    resources:
        device=params.device,
        gpu=params.gpus,
        mem_mb=6000,
        runtime=240,
    params:
        n=params.n_samples,
        sampler=params.sampler,
        code=params.code_of("sample"),
    message:
        "draw samples of {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "python -m workflow.forkserver sample --model {input.model} --n {params.n} --sampler {params.sampler:q}"
        " --device {resources.device} --threads {threads} --out {output.samples} --variants {output.variants}"
        " > {log} 2>&1"


rule grid:
    input:
        model="results/{preset}/{dataset}/{model}/seed{seed}/model.safetensors",
    output:
        grid="results/{preset}/{dataset}/{model}/seed{seed}/grid.npy",
    log:
        "results/{preset}/{dataset}/{model}/seed{seed}/logs/grid.log",
    threads: params.threads
    resources:
        device=params.device,
        gpu=params.gpus,
        mem_mb=6000,
        runtime=60,
    params:
        sampler=params.sampler,
        code=params.code_of("sample"),
    message:
        "draw a grid of {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "python -m workflow.forkserver sample --grid --model {input.model} --n 64 --sampler {params.sampler:q}"
        " --device {resources.device} --threads {threads} --out {output.grid} > {log} 2>&1"


rule interpolate:
    input:
        model="results/{preset}/{dataset}/{model}/seed{seed}/model.safetensors",
        test="results/data/{dataset}/test.npy",
        meta="results/data/{dataset}/meta.json",
    output:
        frames="results/{preset}/{dataset}/{model}/seed{seed}/interpolation.npy",
        prior="results/{preset}/{dataset}/{model}/seed{seed}/interpolation_prior.npy",
    log:
        "results/{preset}/{dataset}/{model}/seed{seed}/logs/interpolate.log",
    threads: params.threads
    resources:
        device=params.device,
        gpu=params.gpus,
        mem_mb=6000,
        runtime=60,
    params:
        code=params.code_of("interpolate"),
    message:
        "interpolate by {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "python -m workflow.forkserver interpolate --model {input.model} --data results/data/{wildcards.dataset}"
        " --device {resources.device} --threads {threads} --out {output.frames} --prior {output.prior} > {log} 2>&1"


rule growth:
    input:
        model="results/{preset}/{dataset}/{model}/seed{seed}/model.safetensors",
        test="results/data/{dataset}/test.npy",
        meta="results/data/{dataset}/meta.json",
    output:
        levels="results/{preset}/{dataset}/{model}/seed{seed}/growth.npz",
    log:
        "results/{preset}/{dataset}/{model}/seed{seed}/logs/growth.log",
    threads: params.threads
    resources:
        device=params.device,
        gpu=params.gpus,
        mem_mb=6000,
        runtime=60,
    params:
        code=params.code_of("growth"),
    message:
        "draw every level of {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "python -m workflow.forkserver growth --model {input.model} --data results/data/{wildcards.dataset}"
        " --device {resources.device} --threads {threads} --out {output.levels} > {log} 2>&1"


rule reconstruct:
    input:
        model="results/{preset}/{dataset}/{model}/seed{seed}/model.safetensors",
        summary="results/{preset}/{dataset}/{model}/seed{seed}/train.json",
        train="results/data/{dataset}/train.npy",
        test="results/data/{dataset}/test.npy",
        meta="results/data/{dataset}/meta.json",
    output:
        rmse="results/{preset}/{dataset}/{model}/seed{seed}/metrics/rmse.json",
        mse="results/{preset}/{dataset}/{model}/seed{seed}/metrics/mse.json",
        pairs="results/{preset}/{dataset}/{model}/seed{seed}/reconstructions.npy",
    log:
        "results/{preset}/{dataset}/{model}/seed{seed}/logs/reconstruct.log",
    threads: params.threads
    resources:
        device=params.device,
        gpu=params.gpus,
        mem_mb=6000,
        runtime=60,
    params:
        code=params.code_of("reconstruct"),
    message:
        "reconstruct by {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "python -m workflow.forkserver reconstruct --model {input.model} --train {input.summary} --data results/data/{wildcards.dataset}"
        " --code {params.code}"
        " --device {resources.device} --threads {threads} --rmse {output.rmse} --mse {output.mse} --pairs {output.pairs}"
        " > {log} 2>&1"


rule score:
    input:
        model="results/{preset}/{dataset}/{model}/seed{seed}/model.safetensors",
        images="results/data/{scored}/{split}.npy",
        meta="results/data/{scored}/meta.json",
    output:
        scores="results/{preset}/{dataset}/{model}/seed{seed}/scores/{scored}__{split}.npz",
    log:
        "results/{preset}/{dataset}/{model}/seed{seed}/logs/score_{scored}__{split}.log",
    wildcard_constraints:
        scored=params.dataset_pattern("trainable", "ood"),
    threads: params.threads
    resources:
        device=params.device,
        gpu=params.gpus,
        mem_mb=6000,
        runtime=60,
    params:
        images=params.scored_images,
        code=params.code_of("score"),
    message:
        "score {wildcards.scored} ({wildcards.split}) by {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "python -m workflow.forkserver score --model {input.model} {params.images}"
        " --device {resources.device} --threads {threads} --out {output.scores} > {log} 2>&1"


rule score_holdout:
    input:
        model="results/{preset}/{dataset}/{model}/seed{seed}/model.safetensors",
        test="results/data/{dataset}/test.npy",
        leaky="results/data/{dataset}/test_leaky.npy",
        meta="results/data/{dataset}/meta.json",
    output:
        test="results/{preset}/{dataset}/{model}/seed{seed}/scores/{dataset}__test.npz",
        leaky="results/{preset}/{dataset}/{model}/seed{seed}/scores/{dataset}__test_leaky.npz",
    log:
        "results/{preset}/{dataset}/{model}/seed{seed}/logs/score_holdout.log",
    wildcard_constraints:
        dataset=params.dataset_pattern("holdout"),
    threads: params.threads
    resources:
        device=params.device,
        gpu=params.gpus,
        mem_mb=6000,
        runtime=60,
    params:
        code=params.code_of("score"),
    message:
        "score by {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "python -m workflow.forkserver score --model {input.model} --snapshots --data results/data/{wildcards.dataset} --split test test_leaky"
        " --device {resources.device} --threads {threads} --out {output.test} {output.leaky} > {log} 2>&1"


rule landscape:
    input:
        model="results/{preset}/{dataset}/{model}/seed{seed}/model.safetensors",
        summary="results/{preset}/{dataset}/{model}/seed{seed}/train.json",
        train="results/data/{dataset}/train.npy",
        test="results/data/{dataset}/test.npy",
        index="results/data/{dataset}/index.npz",
        meta="results/data/{dataset}/meta.json",
        classifier=params.landscape_classifier,
    output:
        arrays="results/{preset}/{dataset}/{model}/seed{seed}/landscape.npz",
        sensitivity="results/{preset}/{dataset}/{model}/seed{seed}/landscape.csv",
        record="results/{preset}/{dataset}/{model}/seed{seed}/metrics/landscape_purity.json",
    log:
        "results/{preset}/{dataset}/{model}/seed{seed}/logs/landscape.log",
    threads: params.threads
    resources:
        device=params.device,
        gpu=params.gpus,
        mem_mb=6000,
        runtime=1440,
    params:
        folder=params.folder,
        spec=params.landscape_spec,
        code=params.code_of("landscape"),
    message:
        "map the landscape of {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "python -m workflow.forkserver landscape --model {input.model} --train {input.summary} --data results/data/{wildcards.dataset}"
        " --classifier {input.classifier} --spec {params.spec:q} --code {params.code}"
        " --device {resources.device} --threads {threads}"
        " --state {params.folder}/landscape.pt --out {output.arrays} --sensitivity {output.sensitivity}"
        " --record {output.record} > {log} 2>&1"
