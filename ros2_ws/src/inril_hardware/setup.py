from setuptools import find_packages, setup

package_name = "inril_hardware"

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
    description="What stands between the graph and an arm: the simulated cell, and arms behind ros2_control.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "camera_node = inril_hardware.camera_node:main",
            "sim_cell = inril_hardware.sim_cell:main",
            "simulated_controllers = inril_hardware.simulated_controllers:main",
        ],
        "inril.arms": ["ros2_control = inril_hardware.arms.controllers:Config"],
    },
)
