from setuptools import find_packages, setup

package_name = "inril_control"

setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="inril developers",
    maintainer_email="maintainers@inril.dev",
    description="The control tick: observation_node, policy_node, arbiter_node and safety_monitor.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "observation_node = inril_control.observation_node:main",
            "policy_node = inril_control.policy_node:main",
            "arbiter_node = inril_control.arbiter_node:main",
            "safety_monitor = inril_control.safety_monitor:main",
        ]
    },
)
